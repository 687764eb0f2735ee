# SPDX-License-Identifier: Apache-2.0
"""What xl is given to create a guest from."""

from __future__ import annotations

import re

import pytest

from lab.domain_config import MAX_SOCKET_PATH_BYTES, SACRIFICE, Channel, DomainConfig, mac_of
from lab.errors import LabError

UUID = "3d6bf1a4-7c0e-4b8c-9f0e-6f0c2a7d1e01"
CONFIG = Channel("org.pvchannel.config.1", path="/run/pv-channel/vm1.sock")
TERMINAL = Channel("org.example.terminal.1", connection="pty")


def config(**more: object) -> DomainConfig:
    """A guest vm1, changed by *more*."""
    fields = {"name": "vm1", "disk": "/dev/mapper/vm1", "mac": "00:16:3e:00:00:01", "uuid": UUID, "channels": (CONFIG, TERMINAL)}
    return DomainConfig(**{**fields, **more})  # type: ignore[arg-type]  # some of these are wrong on purpose


def test_the_text_says_all_that_a_guest_is() -> None:
    text = config().text()
    for line in (
        'name = "vm1"',
        'type = "pvh"',
        f'uuid = "{UUID}"',
        'tsc_mode = "native"',
        'disk = [ "phy:/dev/mapper/vm1,xvda,w" ]',
        'vif = [ "bridge=xenbr0,mac=00:16:3e:00:00:01" ]',
    ):
        assert line in text.splitlines()


def test_the_first_channel_is_one_that_nobody_misses() -> None:
    line = next(line for line in config().text().splitlines() if line.startswith("channel"))
    assert re.findall(r"'([^']*)'", line) == [
        SACRIFICE,
        "connection=socket,name=org.pvchannel.config.1,path=/run/pv-channel/vm1.sock",
        "connection=pty,name=org.example.terminal.1",
    ]


def test_the_sacrifice_can_be_left_out_and_is_not_made_for_nothing() -> None:
    assert SACRIFICE not in config(sacrifice=False).text()
    assert "channel = [  ]" in config(channels=()).text()


def test_a_config_survives_being_kept_in_dom0() -> None:
    kept = config(kind="pv", megabytes=256, sacrifice=False)
    assert DomainConfig.from_record(kept.record().encode()) == kept


@pytest.mark.parametrize("value", ["a,b", "a=b", 'a"b', "a b", "a\nb"])
def test_a_channel_that_xl_could_misread_is_refused(value: str) -> None:
    with pytest.raises(LabError, match="xl cannot be given"):
        Channel(value, path="/run/x")
    with pytest.raises(LabError, match="xl cannot be given"):
        Channel("org.example.x.1", path=f"/run/{value}")


def test_a_socket_needs_a_path_that_fits_and_a_pty_none() -> None:
    Channel("org.example.x.1", path="/" + "x" * (MAX_SOCKET_PATH_BYTES - 1))
    with pytest.raises(LabError, match="longer"):
        Channel("org.example.x.1", path="/" + "x" * MAX_SOCKET_PATH_BYTES)
    with pytest.raises(LabError, match="a socket has a path"):
        Channel("org.example.x.1")
    with pytest.raises(LabError, match="a pty has none"):
        Channel("org.example.x.1", connection="pty", path="/run/x")


@pytest.mark.parametrize("name", ["", "VM1", "vm 1", "../vm", "vm1\n", "-vm", "vm;reboot", "x" * 32])
def test_a_name_that_a_path_or_a_shell_could_misread_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="no name for a guest"):
        config(name=name)


@pytest.mark.parametrize("mac", ["", "00:16:3e:00:00", "00:16:3E:00:00:01", "00:16:3e:00:00:01,script=x"])
def test_a_mac_address_that_is_none_is_refused(mac: str) -> None:
    with pytest.raises(LabError, match="no MAC address"):
        config(mac=mac)


def test_each_name_has_a_mac_of_its_own_in_xens_range() -> None:
    assert mac_of("vm1") == mac_of("vm1")
    assert mac_of("vm1") != mac_of("vm2")
    assert config(mac=mac_of("vm1")).mac.startswith("00:16:3e:")


def test_each_mac_is_a_network_card_and_a_record_keeps_them() -> None:
    two = config(more_macs=("00:16:3e:00:00:02",))
    assert 'vif = [ "bridge=xenbr0,mac=00:16:3e:00:00:01", "bridge=xenbr0,mac=00:16:3e:00:00:02" ]' in two.text().splitlines()
    assert DomainConfig.from_record(two.record().encode()) == two
    with pytest.raises(LabError, match="no MAC address"):
        config(more_macs=("eth0",))
