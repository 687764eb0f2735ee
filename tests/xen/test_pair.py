# SPDX-License-Identifier: Apache-2.0
"""The product on real Xen: udev and systemd start it, QEMU carries it, dom0 logs in afterwards."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from lab import demo_xen
from lab.domain_config import Channel
from pv_channel import CHANNEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.dom0 import Dom0
    from lab.domain_config import Kind
    from lab.guests import Guest
    from lab.running import Lab

OTHER_CHANNEL = "org.example.other.1"
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


@pytest.mark.parametrize("kind", ["pvh", "pv"])
def test_a_first_boot_is_configured_before_the_network_is_prepared(
    lab: Lab, create: Callable[..., Guest], operator_key: str, kind: Kind
) -> None:
    guest = create(kind)
    answer = demo_xen.push(lab.dom0, demo_xen.document(operator_key))
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


def test_a_running_guest_changes_its_name_address_and_keys(lab: Lab, create: Callable[..., Guest], operator_key: str) -> None:
    guest = create()
    first = demo_xen.document(operator_key)
    assert demo_xen.push(lab.dom0, first)["outcome"] == "applied"
    guest.wait_ready()
    again = demo_xen.push(lab.dom0, first)
    assert (again["outcome"], again["generation"]) == ("unchanged", 1)
    second = first.replace(f"{demo_xen.ADDRESS}/24", "10.77.0.77/24").replace("web1.example.org", "web9.example.org")
    second = second.replace("local-hostname: web1", "local-hostname: web9")
    answer = demo_xen.push(lab.dom0, second)
    assert (answer["outcome"], answer["generation"]) == ("applied", 2)

    def addresses() -> str:
        return guest.run("ip -brief address show").output

    eventually(lambda: "10.77.0.77/24" in addresses(), "the new address never came up")
    assert demo_xen.ADDRESS not in addresses()
    assert guest.run("hostname").output.strip() == "web9"


def test_save_and_restore_leave_a_guest_that_can_still_be_configured(
    lab: Lab, create: Callable[..., Guest], operator_key: str
) -> None:
    guest = create()
    first = demo_xen.document(operator_key)
    assert demo_xen.push(lab.dom0, first)["outcome"] == "applied"
    guest.wait_ready()
    pid = guest.run(f"systemctl show --value -p MainPID '{AGENT_UNIT.format(1)}'").output.strip()
    guest.save_and_restore()
    answer = demo_xen.push(lab.dom0, first)
    assert answer["outcome"] == "unchanged"
    answer = demo_xen.push(lab.dom0, first.replace("fqdn: web1", "fqdn: web2"))
    assert answer["outcome"] == "applied"
    assert guest.run(f"systemctl show --value -p MainPID '{AGENT_UNIT.format(1)}'").output.strip() == pid


def test_the_service_follows_a_guest_through_a_reboot_and_its_own_death(
    lab: Lab, create: Callable[..., Guest], operator_key: str
) -> None:
    dom0, path = lab.dom0, f"/etc/pv-host-agent/documents/{demo_xen.HOSTNAME}.yaml"
    dom0.run("mkdir -p -m 0700 /etc/pv-host-agent/documents && rm -f /etc/pv-host-agent/documents/*")
    document = demo_xen.document(operator_key)
    dom0.put(path, document, mode=0o600)
    service = dom0.spawn("exec pv-host-agent serve", log="/run/serve.log")
    guest = create()

    def wait_for(generation: int) -> None:
        deadline = time.monotonic() + EVENTUALLY_SECONDS
        while applied(dom0) != generation:
            assert time.monotonic() < deadline, f"generation {generation} never came:\n{dom0.get('/run/serve.log').decode()}"
            time.sleep(1)

    try:
        wait_for(1)
        guest.wait_ready()
        written = guest.run("stat -c %y /etc/hostname").output
        guest.reboot()
        assert guest.run("stat -c %y /etc/hostname").output == written
        assert guest.run("hostname").output.strip() == demo_xen.HOSTNAME
        dom0.put(path, document.replace("fqdn: web1", "fqdn: web3"), mode=0o600)
        wait_for(2)
        dom0.run(f"kill -9 {service.pid}")
        service = dom0.spawn("exec pv-host-agent serve", log="/run/serve.log")
        dom0.put(path, document.replace("fqdn: web1", "fqdn: web4"), mode=0o600)
        wait_for(3)
    finally:
        service.stop()
        dom0.run("rm -f /etc/pv-host-agent/documents/*")


def applied(dom0: Dom0) -> int:
    """The generation that the ledger says the guest has applied; 0 for none."""
    done = dom0.run(f"pv-host-agent status --json {demo_xen.HOSTNAME}", check=False)
    if done.status != 0:
        return 0
    status = json.loads(done.output)
    return int(status["generation-applied"] or 0)


def test_a_guest_whose_host_never_speaks_boots_on_and_is_provisioned_later(
    lab: Lab, create: Callable[..., Guest], operator_key: str
) -> None:
    guest = create()
    guest.wait_ready()
    agent = AGENT_UNIT.format(1)
    assert guest.run(f"systemctl is-active '{agent}'").output.strip() == "active"
    waited = monotonic(guest, agent, "ActiveEnter") - monotonic(guest, agent, "InactiveExit")
    assert waited >= 9_000_000
    assert guest.run("hostname").output.strip() == "template"
    answer = demo_xen.push(lab.dom0, demo_xen.document(operator_key))
    assert answer["outcome"] == "applied"
    assert demo_xen.log_in(lab.dom0, answer["host-keys"]) == demo_xen.HOSTNAME
    guest.reboot()
    assert monotonic(guest, agent, "ActiveEnter") - monotonic(guest, agent, "InactiveExit") < waited


def test_another_applications_channel_is_left_alone(lab: Lab, create: Callable[..., Guest], operator_key: str) -> None:
    other = "/run/pv-channel/other.sock"
    guest = create(channels=[Channel(OTHER_CHANNEL, path=other), Channel(CHANNEL_NAME, path=demo_xen.SOCKET)])
    answer = demo_xen.push(lab.dom0, demo_xen.document(operator_key))
    assert answer["outcome"] == "applied"
    guest.wait_ready()
    units = guest.run("systemctl list-units --no-legend --plain 'pv-guest-agent@*'").output
    assert [line.split()[0] for line in units.splitlines()] == [r"pv-guest-agent@sys-devices-console\x2d2.service"]
    channels = json.loads(guest.run("pv-guest-agent channels --json").output)
    assert {channel["name"]: channel["tty"] for channel in channels} == {OTHER_CHANNEL: "/dev/hvc1", CHANNEL_NAME: "/dev/hvc2"}
    quiet = lab.dom0.run(f"timeout 5 socat -u UNIX-CONNECT:{other} - | wc -c").output.strip()
    assert quiet == "0"
    holders = guest.run("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c /dev/hvc1$", check=False).output.strip()
    assert holders == "0"


def test_a_document_for_another_vm_is_refused_by_the_guest(lab: Lab, create: Callable[..., Guest], operator_key: str) -> None:
    guest = create()
    guest.wait_ready()
    document = demo_xen.document(operator_key).replace(demo_xen.UUID, "11111111-2222-3333-4444-555555555555")
    lab.dom0.put("/root/wrong.yaml", document)
    done = lab.dom0.run(f"pv-host-agent push --timeout 20 --socket {demo_xen.SOCKET} /root/wrong.yaml", check=False)
    assert done.status == 1
    assert demo_xen.UUID in done.output
    assert guest.run("hostname").output.strip() == "template"


def test_killing_qemu_does_not_hang_the_guest(lab: Lab, create: Callable[..., Guest], operator_key: str) -> None:
    guest = create()
    assert demo_xen.push(lab.dom0, demo_xen.document(operator_key))["outcome"] == "applied"
    guest.wait_ready()
    lab.dom0.run(f"kill -9 $(xenstore-read /local/domain/{guest.domid}/image/device-model-pid)")
    done = lab.dom0.run(f"pv-host-agent push --timeout 15 --socket {demo_xen.SOCKET} /root/{demo_xen.HOSTNAME}.yaml", check=False)
    assert done.status == 1
    assert guest.run("hostname").output.strip() == demo_xen.HOSTNAME
    assert guest.run("nproc").output.strip() == "1"


def test_the_guests_logs_hold_no_failed_unit_of_ours_and_no_getty_or_modem_manager_on_the_channel(
    lab: Lab, create: Callable[..., Guest], operator_key: str
) -> None:
    guest = create()
    assert demo_xen.push(lab.dom0, demo_xen.document(operator_key))["outcome"] == "applied"
    guest.wait_ready()
    failed = guest.run("systemctl --failed --no-legend --plain").output
    assert "pv-" not in failed
    assert not re.search(r"getty@hvc[1-7]", guest.run("systemctl list-units --no-legend --plain '*getty*'").output)
    assert guest.run("udevadm info --query=property --property=ID_MM_DEVICE_IGNORE --value /dev/hvc1").output.strip() == "1"
