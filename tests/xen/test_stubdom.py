# SPDX-License-Identifier: Apache-2.0
"""The toolstack to Linux stubdomain protocol on real Xen: a PV domain plays the stubdomain, with a real QEMU and vchan inside.

Its QEMU needs no target (it emulates a processor by itself), so the target is a domain that only stands still.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from lab.device_model import ADD_PROXY, MEGABYTES, archive
from lab.domain_config import Channel
from tests.xen.serving import EVENTUALLY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.dom0 import Completed, Dom0
    from lab.guests import Guest
    from lab.running import Lab

#: What a shell, a line reader, a C string or a careless encoder would spoil.
HOSTILE = "a\tb\nc \"d\" 'e' $HOME `f` \\ é  %s,,x"
#: It stands still: what its firmware had begun would be in its memory, which is not in the state of its devices.
MACHINE = ["-machine", "pc,accel=tcg", "-m", "16", "-nodefaults", "-display", "none", "-S"]
CLOCK = ["-rtc", "base=2001-02-03T04:05:06,clock=vm"]
INCOMING = ["-incoming", "$STUBDOM_RESTORE_INCOMING_ARG"]
CHANNELS = {1: "org.example.save.1", 2: "org.example.restore.1", 3: "org.example.target.1"}
#: Emulated twice over: a processor in a QEMU in a domain in a QEMU.
PATIENTLY = "--timeout 200"

#: Inside: until the launcher's unit is over; the launcher's exit status.
ENDED = """
while true; do
    case $(systemctl is-active launch) in active|activating|deactivating) sleep 0.3 ;; *) break ;; esac
done
systemctl show -P ExecMainStatus launch
"""


class Stubdomain:
    """The pair: the target and its stubdomain, with what both sides say."""

    def __init__(self, lab: Lab) -> None:
        self.dom0: Dom0 = lab.dom0
        self.dom0.run("mkdir -p -m 0700 /run/pv-channel")
        self.target: Guest = lab.create("target1", megabytes=128)
        self.target.pause()
        self.inside: Guest | None = None
        channels = [Channel(name, path=f"/run/pv-channel/stub-{number}.sock") for number, name in CHANNELS.items()]
        furniture = archive(), ADD_PROXY
        self.inside = lab.create("stub1", kind="pv", megabytes=MEGABYTES, channels=channels, furniture=furniture)

    @property
    def stub(self) -> Guest:
        """The domain that plays it."""
        assert self.inside is not None
        return self.inside

    def destroy(self) -> None:
        """End both."""
        for guest in (self.inside, self.target):
            if guest is not None:
                guest.destroy()

    def dm(self, words: str, *, good: bool = True, timeout: float = EVENTUALLY_SECONDS) -> Completed:
        """A verb in dom0; what it printed, errors too."""
        done = self.dom0.run(f"pv-host-agent dm {words} 2>&1", check=False, timeout=timeout)
        assert (done.status == 0) is good, f"dm {words}: {done.status}\n{done.output}\n{self.log()}"
        return done

    def publish(self, *arguments: str, again: bool = False) -> None:
        """QEMU's arguments, for a launcher that is not started yet."""
        options = "--stubdom stub1" + (" --again" if again else "")
        self.dm(f"argv target1 {options} -- {shlex.join(arguments)}")

    def ask(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """What QEMU answers to a command of QMP."""
        more = "" if arguments is None else shlex.quote(json.dumps(arguments))
        return json.loads(self.dm(f"qmp {PATIENTLY} target1 {command} {more}").output)

    def launch(self) -> None:
        """Start the launcher inside, and return at once."""
        self.stub.run("systemctl reset-failed launch 2>/dev/null; systemd-run --quiet --unit=launch pv-stubdom-launch")

    def ended(self) -> str:
        """Wait until the launcher has; its exit status."""
        return self.stub.run(ENDED, timeout=EVENTUALLY_SECONDS).output.strip()

    def pid(self, program: str) -> str:
        """The process of the launcher's *program* inside."""
        return self.stub.run(f"pgrep -f '^[^ ]*{program}'").output.strip()

    def year(self) -> int:
        """What the emulated machine's clock has for one."""
        return 1900 + int(self.ask("qom-get", {"path": "/machine", "property": "rtc-time"})["tm_year"])

    def log(self) -> str:
        """What the launcher and QEMU have said."""
        if self.inside is None:
            return ""
        return self.inside.run("journalctl -b -o cat --no-pager -u launch | tail -n 40", check=False).output


@pytest.fixture
def stubdomain(lab: Lab) -> Iterator[Stubdomain]:
    """Booted, with nothing published yet."""
    made = Stubdomain(lab)
    try:
        made.stub.wait_ready()
        made.stub.run("modprobe -a xen-gntalloc xen-gntdev xen-evtchn")
        yield made
    finally:
        made.destroy()


def test_a_device_model_in_a_stubdomain_is_started_spoken_with_saved_and_restored_in_another(stubdomain: Stubdomain) -> None:
    both = stubdomain
    dom0 = both.dom0

    # Before anything is published, both ends say what is missing.
    both.launch()
    assert both.ended() == "65", both.log()
    assert "nothing" in both.dm("wait --stubdom stub1 --target target1 --timeout 3", good=False).output

    # Arguments that every shell would spoil arrive as they are.
    both.publish(*MACHINE, *CLOCK, "-name", HOSTILE)
    shown = json.loads(both.dm("argv target1 --show --json").output)
    assert [each["text"] for each in shown["arguments"]][-1] == HOSTILE
    both.launch()
    both.dm(f"wait target1 {PATIENTLY}")
    assert both.ask("query-name")["name"] == HOSTILE.replace(",,", ",")
    assert both.ask("query-status")["status"] == "prelaunch"
    assert both.year() == 2001

    # What each console is, from dom0; the third is a channel of the target's.
    consoles = json.loads(both.dm("consoles target1 --json").output)
    roles = {each["console"]: each["role"] for each in consoles["consoles"]}
    assert roles == {0: "log", 1: "save", 2: "restore", 3: "channel"}
    channels = json.loads(dom0.run("pv-host-agent channels --json").output)
    assert {each["vm"] for each in channels if each["channel"] == CHANNELS[3]} == {"target1"}

    # A second client is told who is there; the first one is then served as before.
    lock = f"/var/lib/xen/userdata-l.{both.target.domid}.{both.target.uuid}.qmp-socket-lock"
    with dom0.spawn(f"exec flock {lock} sleep 1000", log="/run/flock.log"):
        dom0.run(f"while flock -n {lock} true; do sleep 0.1; done")
        refused = both.dm("qmp --timeout 5 target1 query-status", good=False).output
    assert "flock" in refused or "sleep" in refused
    assert both.ask("query-status")["status"] == "prelaunch"

    # Each party is killed, and comes back.
    with dom0.spawn("exec pv-host-agent dm qmp --serve target1", log="/run/served.log") as served:
        dom0.run("timeout 300 sh -c 'until pgrep -x vchan-socket-pr; do sleep 0.2; done'", timeout=EVENTUALLY_SECONDS)
        assert both.ask("query-status")["status"] == "prelaunch"
        dom0.run("pkill -9 -x vchan-socket-pr")
        assert both.ask("query-status")["status"] == "prelaunch"
        assert served.poll() is None
    dom0.run("pkill -9 -x vchan-socket-pr", check=False)
    both.stub.run(f"kill -9 {both.pid('vchan-socket-proxy')}")
    assert both.ask("query-status")["status"] == "prelaunch"
    both.stub.run(f"kill -9 {both.pid('qemu-system')}")
    assert both.ended() == str(128 + 9), both.log()
    both.dm("qmp --timeout 5 target1 query-status", good=False)
    both.launch()
    both.dm(f"wait target1 {PATIENTLY}")
    both.stub.run("systemctl kill -s KILL --kill-whom=main launch")
    both.ended()
    both.publish(*MACHINE, *CLOCK, "-name", HOSTILE, again=True)
    both.launch()
    both.dm(f"wait target1 {PATIENTLY}")

    # State comes out through console 1, and is in another stubdomain's QEMU through its console 2.
    both.dm(f"save --save-timeout 200 {PATIENTLY} target1 /root/device-model")
    saved = dom0.get("/root/device-model")
    assert saved.startswith(b"QEVM")
    both.stub.reboot()
    both.stub.run("modprobe -a xen-gntalloc xen-gntdev xen-evtchn")
    both.publish(*MACHINE[:-1], "-rtc", "base=2010-01-01,clock=vm", "-name", "again", *INCOMING, again=True)
    both.launch()
    waits = "--ready-timeout 200 --send-timeout 200 --start-timeout 200"
    both.dm(f"restore {waits} {PATIENTLY} target1 /root/device-model")
    both.dm(f"wait target1 {PATIENTLY}")
    assert both.year() == 2001
    assert both.ask("query-name")["name"] == "again"
