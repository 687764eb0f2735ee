# SPDX-License-Identifier: Apache-2.0
"""Hot-plug on real Xen: a guest that was created without our channel is provisioned over one that is plugged, and loses it again.

What is counted before and after: xenstore's nodes, QEMU's descriptors, and the sockets.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lab.domain_config import Channel
from pv_channel import CHANNEL_NAME
from tests.xen.serving import MAC, SOCKET, UUID, Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guests import Guest

BYSTANDER = "org.example.bystander.1"
SECOND = "org.example.second.1"
SECOND_SOCKET = "/run/pv-channel/second.sock"
TIMES = 20
#: Emulated: a guest on a bad day.
PATIENTLY = "--timeout 200"

#: In the guest: whatever channel comes up beyond the first two, what is written there comes back with its case swapped, which no
#: terminal's echo does.
SWAP = """
import os, termios, time, tty
while True:
    for slot in range(3, 8):
        try:
            end = os.open(f"/dev/hvc{slot}", os.O_RDWR | os.O_NOCTTY)
        except OSError:
            continue
        try:
            tty.setraw(end, termios.TCSANOW)
            while data := os.read(end, 4096):
                os.write(end, data.swapcase())
        except (OSError, termios.error):
            pass
        os.close(end)
    time.sleep(0.3)
"""

#: In dom0: again and again plugged, a kilobyte there and back until the guest has opened its end, and unplugged. In one process,
#: because starting Python costs an emulated machine more than all of it.
TWENTY_TIMES = """
import os, socket, sys, time
from host_agent.__main__ import main
name, path, times = sys.argv[1], sys.argv[2], int(sys.argv[3])

def talk(word):
    sent = (word + "x" * 1000 + "\\n").encode()
    end = socket.socket(socket.AF_UNIX)
    end.connect(path)
    end.settimeout(5)
    heard, deadline = b"", time.monotonic() + 200
    while sent.swapcase() not in heard:
        if time.monotonic() > deadline:
            sys.exit(f"{len(heard)} bytes came, and not the right ones: {heard[-200:]}")
        end.sendall(sent)
        try:
            while sent.swapcase() not in heard:
                data = end.recv(65536)
                if not data:
                    sys.exit("hung up")
                heard += data
        except TimeoutError:
            pass
    end.close()

for n in range(times):
    assert main(["plug", "db1", "--name", name, "--path", path, "--timeout", "200"]) == 0
    talk(f"word{n}")
    assert main(["unplug", "db1", name, "--timeout", "200"]) == 0
    assert not os.path.exists(path)
"""

#: In dom0: all that a plugged channel could leave behind, a line each; a descriptor by what kind of thing it is.
LEFT = r"""
d={domid}
for tree in /libxl/$d /local/domain/0/backend/console/$d /local/domain/$d/device; do xenstore-ls -f $tree | sed 's/ = .*//'; done
find /proc/{qemu}/fd -type l -printf '%l\n' | sed 's/[0-9]\+/N/g'
ls -A /run/pv-channel
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


def left(serving: Serving, guest: Guest) -> list[str]:
    """The lines of `LEFT`, in order."""
    printed = serving.dom0.run(LEFT.format(domid=guest.domid, qemu=guest.qemu)).output
    return sorted(printed.splitlines())


def nothing_is_left(serving: Serving, guest: Guest, before: list[str]) -> None:
    """Wait until what is there is what was there *before*."""
    now: list[str] = []

    def as_before() -> bool:
        now[:] = left(serving, guest)
        return now == before

    try:
        serving.eventually(as_before, "something is left of a channel that is gone")
    except AssertionError as exc:
        raise AssertionError(f"more: {Counter(now) - Counter(before)}, less: {Counter(before) - Counter(now)}\n{exc}") from exc


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


def test_a_guest_is_provisioned_over_a_plugged_channel_loses_it_and_gets_it_back_twenty_times_without_a_leak(
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
    nothing_is_left(serving, guest, at_first)
    serving.eventually(lambda: "plug one in" in serving.status()["detail"], "the service takes a channel that is gone for one")
    assert serving.status()["generation-applied"] == 1

    # A paused guest takes nothing up, and nothing of the attempt is left in QEMU.
    guest.pause()
    done = serving.dom0.run("pv-host-agent plug db1 --timeout 5 2>&1", check=False)
    guest.unpause()
    assert done.status == 1, done.output
    assert "the guest did not take up console" in done.output
    assert "everything was undone" in done.output
    nothing_is_left(serving, guest, at_first)

    # Plugged anew: what changed meanwhile is applied, once.
    serving.write("second")
    replugged = serving.ask(f"plug db1 {PATIENTLY}", timeout=400)
    assert replugged["path"] == SOCKET
    assert serving.wait()["generation-applied"] == 2
    assert guest.run("cat /etc/app.conf").output == "second"
    assert guest.run("journalctl -b -o cat -u 'pv-guest-agent@*' | grep -c '^generation 2: applied'").output == "1\n"

    # A second channel, twenty times, with bytes both ways each time; the first goes on.
    serving.dom0.put("/root/twenty.py", TWENTY_TIMES)
    guest.run(f"cat >/root/swap.py <<'END'\n{SWAP}\nEND\nsystemd-run --quiet --unit=swap python3 /root/swap.py")
    before = left(serving, guest)
    script = f"/opt/pv-channel-agents/bin/python /root/twenty.py {SECOND} {SECOND_SOCKET} {TIMES} 2>&1"
    printed = serving.dom0.run(script, timeout=120.0 * TIMES).output
    consoles = {line.partition("console ")[2].partition(":")[0] for line in printed.splitlines() if line.startswith("plugged")}
    assert len(consoles) == 1, printed
    nothing_is_left(serving, guest, before)
    serving.write("third")
    assert serving.wait()["generation-applied"] == 3
    nothing_failed(guest)
    assert json.loads(guest.run("pv-guest-agent channels --json").output)[-1]["name"] == CHANNEL_NAME

    # What the domain was created with can go, too; then only the plugged one is left, and the agent finds it at its old terminal.
    serving.ask(f"unplug db1 {BYSTANDER} {PATIENTLY}", timeout=400)
    guest.run("systemctl restart 'pv-guest-agent@*'")
    serving.write("fourth")
    assert serving.wait()["generation-applied"] == 4
    nothing_failed(guest)
