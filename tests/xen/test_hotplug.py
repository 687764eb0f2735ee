# SPDX-License-Identifier: Apache-2.0
"""Hot-plug on real Xen: a guest that was created without our channel is provisioned over one that is plugged, and loses it again.

What is counted before and after: xenstore's nodes, QEMU's descriptors, and the sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.domain_config import Channel
from pv_channel import CHANNEL_NAME
from tests.xen.serving import MAC, SOCKET, UUID, Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guests import Guest

BYSTANDER = "org.example.bystander.1"
#: Emulated: a guest on a bad day.
PATIENTLY = "--timeout 200"

#: In dom0: all that a plugged channel could leave behind, as numbers.
LEFT = """
d={domid}
for tree in /libxl/$d /local/domain/0/backend/console/$d /local/domain/$d/device; do xenstore-ls $tree | wc -l; done
ls /proc/{qemu}/fd | wc -l
ls -A /run/pv-channel | wc -l
"""


@pytest.fixture
def guest(serving: Serving) -> Iterator[Guest]:
    """db1, up, with one channel of another application's; it is forgotten afterwards."""
    serving.write("first")
    channel = Channel(BYSTANDER, path="/run/pv-channel/bystander.sock")
    made = serving.lab.create("db1", uuid=UUID, mac=MAC, channels=[channel])
    try:
        made.wait_ready()
        yield made
    finally:
        made.destroy()


def left(serving: Serving, guest: Guest) -> list[int]:
    """The numbers of `LEFT`."""
    printed = serving.dom0.run(LEFT.format(domid=guest.domid, qemu=guest.qemu)).output
    return [int(line) for line in printed.split()]


def agents(guest: Guest) -> list[list[str]]:
    """The units of the guest's agents that systemd knows of, with what they are."""
    listed = guest.run("systemctl list-units --all --no-legend --plain 'pv-guest-agent@*'").output
    return [line.split()[:4] for line in listed.splitlines()]


def running_agents(guest: Guest) -> list[str]:
    """Those that run."""
    return [unit for unit, _, active, _ in agents(guest) if active == "active"]


def nothing_failed(guest: Guest) -> None:
    """No unit of ours has failed, and no agent of this boot has said what only a broken one says."""
    assert "pv-" not in guest.run("systemctl --failed --no-legend --plain").output
    said = guest.run("journalctl -b -o cat -u 'pv-guest-agent@*'").output
    assert "Traceback" not in said
    assert "Failed with result" not in said


def test_a_guest_is_provisioned_over_a_plugged_channel_and_loses_it_without_a_trace(
    serving: Serving, guest: Guest
) -> None:
    assert agents(guest) == []
    serving.eventually(lambda: "plug one in" in serving.status()["detail"], "the service does not say what is missing")
    at_first = left(serving, guest)

    # Plugged: udev starts the agent, and the service finds the channel.
    plugged = serving.ask(f"plug db1 {PATIENTLY}", timeout=400)
    assert (plugged["channel"], plugged["path"], plugged["already"]) == (CHANNEL_NAME, SOCKET, False)
    vm = serving.wait()
    assert (vm["generation-applied"], vm["channel"]) == (1, SOCKET)
    assert guest.run("cat /etc/app.conf; hostname").output == "firstdb1\n"
    unit = rf"pv-guest-agent@sys-devices-console\x2d{plugged['console']}.service"
    assert running_agents(guest) == [unit]
    channels = {channel["channel"]: channel for channel in serving.ask("channels") if channel["vm"] == "db1"}
    assert channels[CHANNEL_NAME]["frontend-state"] == channels[CHANNEL_NAME]["backend-state"] == "connected"
    assert serving.findings() == set()

    # Plugged again: it is there.
    again = serving.ask(f"plug db1 {PATIENTLY}", timeout=400)
    assert (again["already"], again["console"], again["path"]) == (True, plugged["console"], SOCKET)

    # Unplugged: the agent ends as it should, and nothing stays.
    serving.ask(f"unplug db1 {CHANNEL_NAME} {PATIENTLY}", timeout=400)
    serving.eventually(lambda: running_agents(guest) == [], "the agent of a channel that is gone goes on")
    nothing_failed(guest)
    serving.eventually(lambda: left(serving, guest) == at_first, "something is left of a channel that is gone")
    serving.eventually(lambda: "plug one in" in serving.status()["detail"], "the service takes a channel that is gone for one")
    assert serving.status()["generation-applied"] == 1

    # A paused guest takes nothing up.
    guest.pause()
    done = serving.dom0.run("pv-host-agent plug db1 --timeout 5 2>&1", check=False)
    guest.unpause()
    assert done.status == 1, done.output
    assert "the guest did not take up console" in done.output
    assert "everything was undone" in done.output
