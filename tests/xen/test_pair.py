# SPDX-License-Identifier: Apache-2.0
"""The product on real Xen: udev and systemd start it, QEMU carries it, dom0 logs in afterwards."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from lab import demo_xen
from lab.domain_config import Channel
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.domain_config import Kind
    from lab.guests import Guest
    from lab.running import Lab

AGENT_UNIT = r"pv-guest-agent@sys-devices-console\x2d{}.service"
#: Emulated; three times the slowest that was seen.
EVENTUALLY_SECONDS = 300


@pytest.fixture
def operator_key(lab: Lab) -> str:
    """An ssh key of dom0's, in the place where `demo_xen.log_in` finds it; and this dom0's host key."""
    lab.dom0.run("[ -e /root/operator ] || ssh-keygen -q -t ed25519 -N '' -C operator@dom0 -f /root/operator")
    lab.dom0.run("pv-host-agent keys show >/dev/null 2>&1 || pv-host-agent keys init")
    return lab.dom0.get("/root/operator.pub").decode("ascii").strip()


@pytest.fixture
def create(lab: Lab) -> Iterator[Callable[..., Guest]]:
    """Makes the guest that the document of `demo_xen` is for; it is forgotten afterwards, with what the ledger knows of it."""
    made: list[Guest] = []

    def make(kind: Kind = "pvh", **more: Any) -> Guest:
        channels = more.pop("channels", [Channel(CHANNEL_NAME, path=demo_xen.SOCKET)])
        made.append(lab.create(demo_xen.HOSTNAME, kind=kind, uuid=demo_xen.UUID, mac=demo_xen.MAC, channels=channels, **more))
        return made[-1]

    yield make
    for guest in made:
        guest.destroy()
    lab.dom0.run(f"pv-host-agent forget-key {demo_xen.UUID}", check=False)


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait until *true* is."""
    deadline = time.monotonic() + EVENTUALLY_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(1)


def monotonic(guest: Guest, unit: str, what: str) -> int:
    """A timestamp of a unit, in microseconds since the guest's boot."""
    done = guest.run(f"systemctl show --value -p {what}TimestampMonotonic '{unit}'")
    return int(done.output.strip())


def test_a_pv_guests_first_boot_is_configured_before_the_network_is_prepared_and_changed_while_it_runs(
    lab: Lab, create: Callable[..., Guest], operator_key: str
) -> None:
    guest = create("pv")
    first = demo_xen.document(operator_key)
    answer = demo_xen.push(lab.dom0, first)
    assert answer["outcome"] == "applied"
    assert demo_xen.log_in(lab.dom0, answer["host-keys"]) == demo_xen.HOSTNAME
    guest.wait_ready()
    agent = AGENT_UNIT.format(1)
    applied = monotonic(guest, agent, "ActiveEnter")
    prepared = monotonic(guest, "network-pre.target", "ActiveEnter")
    networkd = monotonic(guest, "systemd-networkd.service", "ExecMainStart")
    assert 0 < applied <= prepared <= networkd
    journal = guest.run(f"journalctl -b -o cat -u '{agent}'").output
    assert "generation 1: applied" in journal
    order = guest.run("journalctl -b -o short-monotonic --no-pager").output
    assert order.index("generation 1: applied") < order.index("network-pre.target")
    assert guest.run("cat /proc/sys/kernel/hostname").output.strip() == demo_xen.HOSTNAME
    assert guest.run("hostname --fqdn").output.strip() == f"{demo_xen.HOSTNAME}.example.org"
    assert "systemd-networkd" in next(item["detail"] for item in answer["items"] if item["item"] == "network")
    nothing_else_is_disturbed(guest)
    again = demo_xen.push(lab.dom0, first)
    assert (again["outcome"], again["generation"]) == ("unchanged", 1)
    second = first.replace(f"{demo_xen.ADDRESS}/24", "10.77.0.77/24").replace("web1.example.org", "web9.example.org")
    answer = demo_xen.push(lab.dom0, second.replace("local-hostname: web1", "local-hostname: web9"))
    assert (answer["outcome"], answer["generation"]) == ("applied", 2)

    def addresses() -> str:
        return guest.run("ip -brief address show").output

    eventually(lambda: "10.77.0.77/24" in addresses(), "the new address never came up")
    assert demo_xen.ADDRESS not in addresses()
    assert guest.run("hostname").output.strip() == "web9"


def nothing_else_is_disturbed(guest: Guest) -> None:
    """No failed unit of ours, and neither a getty nor ModemManager on the channel."""
    assert "pv-" not in guest.run("systemctl --failed --no-legend --plain").output
    assert not re.search(r"getty@hvc[1-7]", guest.run("systemctl list-units --no-legend --plain '*getty*'").output)
    assert guest.run("udevadm info --query=property --property=ID_MM_DEVICE_IGNORE --value /dev/hvc1").output.strip() == "1"


def test_a_guest_whose_host_never_speaks_boots_on_refuses_another_vms_document_and_is_provisioned_later(
    lab: Lab, create: Callable[..., Guest], operator_key: str
) -> None:
    guest = create()
    guest.wait_ready()
    agent = AGENT_UNIT.format(1)
    assert guest.run(f"systemctl is-active '{agent}'").output.strip() == "active"
    waited = monotonic(guest, agent, "ActiveEnter") - monotonic(guest, agent, "InactiveExit")
    assert waited >= 9_000_000
    another = demo_xen.document(operator_key).replace(demo_xen.UUID, "11111111-2222-3333-4444-555555555555")
    lab.dom0.put("/root/wrong.yaml", another)
    done = lab.dom0.run(f"pv-host-agent push --timeout 20 --socket {demo_xen.SOCKET} /root/wrong.yaml", check=False)
    assert done.status == 1
    assert demo_xen.UUID in done.output
    assert guest.run("hostname").output.strip() == "template"
    answer = demo_xen.push(lab.dom0, demo_xen.document(operator_key))
    assert answer["outcome"] == "applied"
    assert demo_xen.log_in(lab.dom0, answer["host-keys"]) == demo_xen.HOSTNAME
    guest.reboot()
    assert monotonic(guest, agent, "ActiveEnter") - monotonic(guest, agent, "InactiveExit") < waited
