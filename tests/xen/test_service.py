# SPDX-License-Identifier: Apache-2.0
"""`serve` on real Xen: one guest through all that happens to a VM in a year, many channels, strangers, and what `doctor` says.

After each of it the VM is at its newest generation, applied once, and `status` says what happened.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lab.domain_config import Channel
from pv_channel import CHANNEL_NAME
from tests.xen.serving import MAC, SOCKET, UUID, Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.guests import Guest

@pytest.fixture
def create(serving: Serving) -> Iterator[Callable[..., Guest]]:
    """Makes db1; it is forgotten afterwards."""
    made: list[Guest] = []

    def make(*channels: Channel, **more: Any) -> Guest:
        wanted = channels or [Channel(CHANNEL_NAME, path=SOCKET)]
        made.append(serving.lab.create("db1", uuid=UUID, mac=MAC, channels=wanted, **more))
        return made[-1]

    yield make
    for guest in made:
        guest.destroy()


def content(guest: Guest) -> str:
    """What the document's file holds, and when it was written."""
    return guest.run("cat /etc/app.conf; stat -c ' %y' /etc/app.conf").output


def test_one_guest_through_all_that_happens_to_a_vm(serving: Serving, create: Callable[..., Guest]) -> None:
    # First boot, by udev.
    serving.write("first")
    guest = create()
    vm = serving.wait()
    assert (vm["state"], vm["outcome"], vm["generation-applied"], vm["domid"]) == ("ready", "applied", 1, guest.domid)
    steps = [step["step"] for step in serving.ask("timeline db1")["steps"]]
    for word in ("seen", "connected", "greeting", "sealed", "sent", "item", "answered"):
        assert word in steps, steps
    assert steps.index("seen") < steps.index("sealed") < steps.index("sent") < steps.index("item") < steps.index("answered")
    picture = serving.dom0.run("pv-host-agent timeline db1 --svg /run/db1.svg && cat /run/db1.svg").output
    assert "<svg" in picture
    assert "network" in picture
    guest.wait_ready()
    serving.eventually(lambda: "10.77.0.31/24" in serving.status()["facts"]["addresses"], "the address never became a fact")
    assert "Debian" in serving.status()["facts"]["os"]
    assert serving.findings() == set()

    # Changed while it runs; then while it is paused.
    serving.write("second")
    assert serving.wait()["generation-applied"] == 2
    assert content(guest).startswith("second")
    guest.pause()
    serving.write("third")
    serving.eventually(lambda: "domain-paused" in serving.findings(), "doctor does not see that it is paused")
    assert serving.status()["generation-applied"] == 2
    guest.unpause()
    assert serving.wait()["generation-applied"] == 3
    assert serving.applied(guest, 3) == 1

    # Reboot: another domain, nothing is applied again.
    written = content(guest)
    guest.reboot()
    serving.eventually(lambda: serving.status()["domid"] == guest.domid, "the new domain was not followed")
    assert serving.wait()["generation-applied"] == 3
    assert content(guest) == written

    # Save and restore; migration, in which the old QEMU takes the new one's socket with it.
    guest.save_and_restore()
    serving.write("fourth")
    assert serving.wait()["generation-applied"] == 4
    guest.migrate()
    serving.write("fifth")
    vm = serving.wait()
    assert (vm["generation-applied"], vm["domid"]) == (5, guest.domid)
    assert serving.dom0.run(f"[ -S {SOCKET} ]", check=False).status == 0
    assert "put back" in serving.dom0.run("pv-host-agent events db1; cat /run/serve.log").output
    assert serving.applied(guest, 5) == 1

    # The service ends, and is killed.
    written = content(guest)
    serving.stop()
    serving.start()
    serving.eventually(lambda: serving.status()["sessions"] > vm["sessions"], "no new session after a restart")
    assert serving.wait()["generation-applied"] == 5
    serving.kill()
    serving.write("sixth")
    serving.start()
    assert serving.wait()["generation-applied"] == 6
    assert serving.applied(guest, 6) == 1

    # The guest's agent is killed, and then the ledger is lost.
    sessions = serving.status()["sessions"]
    guest.run("systemctl kill --signal=KILL 'pv-guest-agent@*'")
    serving.eventually(lambda: serving.status()["sessions"] > sessions, "no new session with a restarted agent")
    assert serving.wait()["generation-applied"] == 6
    serving.stop()
    ledger = "/var/lib/pv-host-agent/ledger.sqlite"
    serving.dom0.run(f"dd if=/dev/urandom of={ledger} bs=4096 count=4 conv=notrunc; rm -f {ledger}-*")
    serving.start()
    serving.eventually(lambda: serving.dom0.run("ls /var/lib/pv-host-agent/*corrupt*", check=False).status == 0, "not set aside")
    vm = serving.wait()
    assert (vm["generation-applied"], {item["item"] for item in vm["items"]} >= {"hostname", "network"}) == (6, True)
    assert vm["host-keys"]
    assert serving.applied(guest, 6) == 1

    # An operator wants it all again.
    guest.run("hostname drifted")
    serving.dom0.run("pv-host-agent reprovision db1")
    serving.eventually(lambda: serving.status()["generation-applied"] == 7, "nothing came of it")
    assert guest.run("hostname").output == "db1\n"

    # Its QEMU dies: no more channel, and doctor says why. Off, and on again.
    serving.dom0.run(f"kill -9 {guest.qemu}")
    serving.eventually(lambda: serving.status()["state"] == "unreachable", "a dead QEMU went unnoticed")
    assert "qemu-dead" in serving.findings()
    assert guest.run("hostname").output == "db1\n"
    guest.kill()
    serving.eventually(lambda: serving.status()["domid"] is None, "a domain that is gone is still shown")
    assert "domain-not-running" in serving.findings()
    guest.start()
    assert serving.wait()["domid"] == guest.domid
    events = serving.dom0.run("pv-host-agent events db1 --audit").output
    assert "generation 6" in events


def test_seven_channels_on_one_guest_of_which_ours_is_a_pty(serving: Serving, create: Callable[..., Guest]) -> None:
    others = [Channel(f"org.example.other.{n}", path=f"/run/pv-channel/other{n}.sock") for n in range(1, 6)]
    serving.write("first")
    guest = create(*others, Channel("org.example.pty.1", "pty"), Channel(CHANNEL_NAME, "pty"))
    assert serving.wait()["generation-applied"] == 1
    channels = {channel["channel"]: channel for channel in serving.ask("channels") if channel["vm"] == "db1"}
    assert len(channels) == 7
    assert channels[CHANNEL_NAME]["connection"] == "pty"
    assert serving.status()["channel"] == channels[CHANNEL_NAME]["path"]
    for channel in others:
        quiet = serving.dom0.run(f"timeout 3 socat -u UNIX-CONNECT:{channel.path} - | wc -c").output.strip()
        assert quiet == "0", f"somebody spoke on {channel.name}"
    guest.wait_ready()
    serving.write("second")
    assert serving.wait()["generation-applied"] == 2
    assert content(guest).startswith("second")
    units = guest.run("systemctl list-units --no-legend --plain 'pv-guest-agent@*'").output
    assert [line.split()[0] for line in units.splitlines()] == [r"pv-guest-agent@sys-devices-console\x2d7.service"]
    ttys = {channel["name"]: channel["tty"] for channel in json.loads(guest.run("pv-guest-agent channels --json").output)}
    assert ttys == {channel.name: f"/dev/hvc{n}" for n, channel in enumerate(guest.config.channels, 1)}
    holders = guest.run("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c '/dev/hvc[1-6]$'", check=False).output.strip()
    assert holders == "0"


def test_strangers_in_dom0_are_waited_for_or_get_nothing_and_doctor_names_them(
    serving: Serving, create: Callable[..., Guest]
) -> None:
    # Somebody who may not: a listener of nobody's, in the place of QEMU's socket.
    serving.dom0.run("rm -rf /run/squat && mkdir -m 0777 /run/squat")
    squatter = serving.dom0.spawn(
        "exec setpriv --reuid=65534 --regid=65534 --clear-groups socat UNIX-LISTEN:/run/squat/s,fork CREATE:/run/squat/got",
        log="/run/squat.log",
    )
    serving.eventually(lambda: serving.dom0.run("[ -S /run/squat/s ]", check=False).status == 0, "no squatter")
    serving.dom0.run(f"mv /run/squat/s {SOCKET}")
    serving.write("first")
    serving.eventually(lambda: "65534" in serving.status()["detail"], "the squatter went unnoticed")
    assert serving.dom0.run("[ -s /run/squat/got ]", check=False).status == 1
    squatter.stop()

    # Somebody who may, and was first: QEMU serves one, and the service waits its turn.
    guest = create()
    assert serving.wait()["generation-applied"] == 1
    guest.wait_ready()
    serving.stop()
    first = serving.dom0.spawn(f"sleep 30000 | socat - UNIX-CONNECT:{SOCKET}", log="/run/first.log")
    serving.start()
    serving.write("second")
    serving.eventually(lambda: serving.status()["state"] == "unreachable", "a queue is not seen")
    serving.eventually(lambda: "someone-else-connected" in serving.findings(), "doctor does not see the other client")
    assert serving.status()["generation-applied"] == 1
    first.stop()
    assert serving.wait()["generation-applied"] == 2
    # The guest's agent is stopped: nobody reads any more.
    guest.run("systemctl stop 'pv-guest-agent@*'")
    serving.stop()
    serving.start()
    missed = {"guest-does-not-read", "agent-silent", "no-agent"}
    serving.eventually(lambda: serving.findings() & missed, "doctor does not miss the agent")


def test_doctor_sees_the_channel_that_xl_dropped(serving: Serving, create: Callable[..., Guest]) -> None:
    serving.write("first")
    create(sacrifice=False)
    serving.eventually(lambda: "xl-dropped-first-entry" in serving.findings(), "doctor does not see it")
    done = serving.dom0.run("pv-host-agent doctor db1", check=False)
    assert done.status == 1
    assert "connection=pty" in done.output
