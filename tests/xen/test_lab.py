# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what the other tests here stand on."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from lab.domain_config import Channel
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.domain_config import Kind
    from lab.guests import Guest
    from lab.running import Lab

ECHO = Channel("org.example.echo.1", path="/run/pv-channel/echo.sock")

#: What answers on a channel in the guest: its tty made raw, as any user of a channel must.
ECHO_IN_GUEST = """
cat >/run/echo.py <<'PYTHON'
import os, tty
fd = os.open("/dev/hvc1", os.O_RDWR | os.O_NOCTTY)
tty.setraw(fd, 0)
open("/run/echo.ready", "w").close()
while True:
    if said := os.read(fd, 256):
        os.write(fd, b"guest says: " + said)
PYTHON
setsid python3 /run/echo.py >/dev/null 2>&1 &
for _ in $(seq 300); do [ -e /run/echo.ready ] && exit 0; sleep 0.2; done
exit 1
"""

#: Says hello at the socket until the answer has come, for at most the seconds given.
HELLO_IN_DOM0 = """
import socket, sys
with socket.socket(socket.AF_UNIX) as channel:
    channel.connect(sys.argv[1])
    channel.settimeout(float(sys.argv[2]))
    channel.sendall(b"hello from dom0")
    heard = b""
    while not heard.endswith(b"guest says: hello from dom0"):
        heard += channel.recv(4096)
print("heard")
"""


@pytest.fixture
def create(lab: Lab) -> Iterator[Callable[..., Guest]]:
    """Creates guests and forgets them afterwards."""
    made: list[Guest] = []

    def make(name: str, kind: Kind = "pvh", *, channels: tuple[Channel, ...] = (), sacrifice: bool = True) -> Guest:
        made.append(lab.create(name, kind=kind, channels=channels, sacrifice=sacrifice))
        return made[-1]

    yield make
    for guest in made:
        guest.destroy()


def test_a_guest_boots_with_nothing_configured_and_speaks_over_its_channel(lab: Lab, create: Callable[..., Guest]) -> None:
    guest = create("plain", channels=(ECHO,))
    assert guest.wait_ready() == "running", guest.run("journalctl -b -p notice --no-pager; dmesg | tail -n 20").output
    assert guest.run("hostname").output == "template\n"
    assert guest.run("cat /sys/hypervisor/uuid").output.strip() == guest.uuid
    assert guest.run("cat /sys/class/net/enX0/address").output.strip() == guest.config.mac
    assert "unmanaged" in guest.run("networkctl --no-legend list enX0").output
    assert guest.run("ip -brief -4 address show scope global").output == ""
    assert guest.run("ls /root/.ssh 2>/dev/null | wc -l").output == "0\n"
    guest.run(ECHO_IN_GUEST)
    lab.dom0.put("/root/hello.py", HELLO_IN_DOM0)
    assert lab.dom0.run(f"python3 /root/hello.py {ECHO.path} 60").output == "heard\n"


def test_xl_drops_the_first_channel_of_a_list_that_makes_no_sacrifice(lab: Lab, create: Callable[..., Guest]) -> None:
    second = Channel("org.example.second.1", path="/run/pv-channel/second.sock")
    guest = create("drops", channels=(ECHO, second), sacrifice=False)
    names = lab.dom0.run(
        f"cd /; for n in $(xenstore-list /local/domain/{guest.domid}/device/console); do "
        f"xenstore-read /local/domain/{guest.domid}/device/console/$n/name; done"
    )
    assert names.output.split() == [second.name]
    # QEMU listens on the dropped one all the same: whoever connects there speaks to nobody.
    assert lab.dom0.run(f"[ -S {ECHO.path} ] && [ -S {second.path} ] && stat -c %a /run/pv-channel").output == "700\n"


def test_two_guests_run_at_once_and_share_nothing_and_a_disk_outlives_a_power_cut_but_not_its_guest(
    lab: Lab, create: Callable[..., Guest]
) -> None:
    one, two = create("one"), create("two")
    assert one.domid != two.domid
    one.run("echo one >/root/mark; sync")
    assert two.run("cat /root/mark", check=False).status != 0
    assert one.run("cat /sys/hypervisor/uuid").output != two.run("cat /sys/hypervisor/uuid").output
    scripts_return_their_status_and_every_byte(lab, two)
    two.shutdown()
    assert not two.running
    one.kill()
    assert not one.running
    one.start()
    assert one.run("cat /root/mark").output == "one\n"
    one.destroy()
    fresh = create("one")
    assert fresh.run("ls /root/mark", check=False).status != 0
    assert fresh.uuid != one.uuid


def scripts_return_their_status_and_every_byte(lab: Lab, guest: Guest) -> None:
    """What a test runs in a guest is what the guest runs, and what it says is what the test gets."""
    assert guest.wait_ready() == "running", guest.console()
    assert guest.run("exit 7", check=False).status == 7
    assert guest.run("seq 20000").output == "".join(f"{number}\n" for number in range(1, 20001))
    assert guest.run("printf 'a\\tb\\r\\n\\033[1m'; echo -n unended").output == "a\tb\r\n\033[1munended"
    long_script = "\n".join(f"# {number:060}" for number in range(400)) + "\necho 'still $here'\n"
    assert guest.run(long_script).output == "still $here\n"
    with pytest.raises(LabError, match="status 124"):
        guest.run("sleep 1000", timeout=60)
    assert guest.run("echo alive; sleep 1000 & exit 0").output == "alive\n"
    with pytest.raises(LabError, match="status 1"):
        guest.run("false")
    assert lab.guest(guest.name).config == guest.config
    with pytest.raises(LabError, match=f"guest {guest.name} exists"):
        lab.create(guest.name)
    assert guest.run("true").status == 0


def test_dom0_runs_scripts_moves_files_and_ends_what_nobody_waits_for(lab: Lab) -> None:
    dom0 = lab.dom0
    noise = os.urandom(300_000)
    dom0.put("/run/lab-test/noise", noise, mode=0o600)
    assert dom0.get("/run/lab-test/noise") == noise
    assert dom0.run("stat -c %a /run/lab-test/noise").output == "600\n"
    assert dom0.run("exit 3", check=False).status == 3
    with pytest.raises(LabError, match="went wrong"):
        dom0.run("echo it went wrong; false")
    with pytest.raises(LabError, match="No such file"):
        dom0.get("/run/lab-test/missing")
    with pytest.raises(LabError, match="over 2 s"):
        dom0.run("sleep 4321", timeout=2)
    give_up = time.monotonic() + 60
    while dom0.run("pgrep -xf 'sleep 4321'", check=False).status == 0:
        assert time.monotonic() < give_up, "a script outlived whoever asked for it"
    with dom0.spawn("echo started; exec sleep 9876", log="/run/lab-test/log") as background:
        assert background.poll() is None
        while not background.output():
            time.sleep(0.1)
        assert background.output() == "started\n"
    assert background.poll() is not None
    assert dom0.run("pv-host-agent --help").output.startswith("usage: pv-host-agent")
