# SPDX-License-Identifier: Apache-2.0
"""Plugging and unplugging, against a QEMU and a guest that are well, and against each way in which they are not.

Whatever fails: nothing of it is left in xenstore or QEMU afterwards, or what is left is told.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from host_agent.__main__ import main
from host_agent.channels import kept_links
from host_agent.channels.discovery import survey
from host_agent.channels.endpoint import Domain
from host_agent.errors import HostError
from host_agent.qemu import hotplug_choice, hotplug_closing
from host_agent.qemu.hotplug import Wanted, plug
from host_agent.qemu.hotplug_choice import path_of
from host_agent.qemu.hotplug_session import Places
from host_agent.qemu.hotunplug import Unwanted, unplug
from host_agent.qemu.libxl_lock import lock_of
from host_agent.qemu.until_signalled import run
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import uuid_bytes
from tests.host.fake_consoles import FakeConsoles
from tests.host.fake_qmp import Oops
from tests.host.fake_xenstored import END, WRITE, Channel, FakeXenstored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from host_agent.qemu.hotplug import Plugged
    from host_agent.qemu.hotunplug import Unplugged

UUID = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
DOMID = 7
OTHER = "org.example.other.1"
LONG = 20.0


class Host:
    """A dom0 with the running VM web1, which was created with one channel of another application's."""

    def __init__(self, work: Path, version: int) -> None:
        self.work, self.version = work, version
        self.sockets = work / "sockets"
        for directory in (self.sockets, work / "run", work / "lib"):
            directory.mkdir(mode=0o700)
        self.xen = FakeXenstored(work / "xenstored")
        self.places = Places([self.xen.path], [work / "run"], work / "lib", connect_seconds=LONG)
        self.said: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.xen)
        other = str(self.sockets / "other.sock")
        self.xen.create(DOMID, "web1", UUID, [Channel(OTHER, other)], os.getpid())
        monitor = self.work / "run" / f"qmp-libxl-{DOMID}"
        self.qemu = FakeConsoles(monitor, self.xen, DOMID, self.version)
        self.qemu.chardevs["libxl-channel0"] = f"disconnected:unix:{other},server=on"
        self.qemu.with_console(1, "libxl-channel0")
        self._stack.enter_context(self.qemu)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def plug(self, name: str = CHANNEL_NAME, **more: Any) -> Plugged:
        wanted = Wanted("web1", name, **{"seconds": LONG, "path": self.path(name), **more})
        return asyncio.run(plug(wanted, self.places, self.said.append))

    def unplug(self, channel: str, **more: Any) -> Unplugged:
        unwanted = Unwanted("web1", channel, **{"seconds": LONG, **more})
        return asyncio.run(unplug(unwanted, self.places, self.said.append))

    def path(self, name: str = CHANNEL_NAME) -> Path:
        return self.sockets / f"{name}.sock"

    def state(self) -> tuple[Any, Any, Any, bool]:
        """All that plugging could leave behind: nodes, character devices, sockets, a held lock."""
        sockets = sorted(path.name for path in self.sockets.iterdir())
        return self.xen.snapshot(), dict(self.qemu.chardevs), sockets, self.locked()

    def locked(self) -> bool:
        """Whether somebody has libxl's lock."""
        with lock_of(DOMID, uuid_bytes(UUID), self.work / "lib").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


@pytest.fixture(params=[7, 10], ids=["7.2", "10"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """With a QEMU that behaves as that version does."""
    with Host(tmp_path, request.param) as one:
        yield one


# what is plugged


def test_a_plugged_channel_is_what_libxl_would_have_made(host: Host) -> None:
    plugged = host.plug()
    assert (plugged.console, plugged.name, plugged.connection, plugged.already) == (2, CHANNEL_NAME, "socket", False)
    nodes = host.xen.snapshot()
    front, back, libxl = (f"/local/domain/{DOMID}/device/console/2", f"/local/domain/0/backend/console/{DOMID}/2",
                          f"/libxl/{DOMID}/device/console/2")  # fmt: skip
    guests, ours, notes = ("n7", "r0"), ("n0", "r7"), ("n0",)
    path = str(host.path())
    assert {node: value for node, value in nodes.items() if node.startswith(front)} == {
        front: ("", guests), f"{front}/backend": (back, guests), f"{front}/backend-id": ("0", guests),
        f"{front}/state": ("4", guests), f"{front}/protocol": ("vt100", guests), f"{front}/limit": ("1048576", ours),
        f"{front}/type": ("ioemu", ours), f"{front}/output": ("chardev:libxl-channel2", ours), f"{front}/tty": ("", ours),
        f"{front}/name": (CHANNEL_NAME, ours),
    }  # fmt: skip
    both = {"frontend": front, "frontend-id": "7", "online": "1", "protocol": "vt100", "name": CHANNEL_NAME,
            "connection": "socket", "path": path}  # fmt: skip
    assert {node: value for node, value in nodes.items() if node.startswith(back)} == {
        back: ("", ours), f"{back}/state": ("4", ours), **{f"{back}/{key}": (value, ours) for key, value in both.items()},
    }  # fmt: skip
    assert {node: value for node, value in nodes.items() if node.startswith(libxl)} == {
        libxl: ("", notes), f"{libxl}/state": ("1", notes), f"{libxl}/backend": (back, notes),
        **{f"{libxl}/{key}": (value, notes) for key, value in both.items()},
    }  # fmt: skip
    assert host.path().is_socket()
    assert not host.locked()


def test_qemus_end_is_there_first_then_all_nodes_at_once_and_qemu_sees_them_when_the_guest_has_taken_them_up(host: Host) -> None:
    front, back = f"/local/domain/{DOMID}/device/console/2", f"/local/domain/0/backend/console/{DOMID}/2"
    seen: list[tuple[str, str, str]] = []

    def before(operation: int, path: str) -> None:
        if operation == END or (operation == WRITE and not path.startswith("/local/domain/0/backend/console/7/1/")):
            nodes = host.xen.snapshot()
            backend, frontend = (nodes[f"{end}/state"][0] if f"{end}/state" in nodes else "" for end in (back, front))
            seen.append((max(host.qemu.ours()), backend, frontend))

    host.xen.before = before
    host.plug()
    assert set(seen[:-1]) == {("libxl-channel2", "", "")}
    assert seen[-1] == ("libxl-channel2", "0", "3")


def test_discovery_finds_a_plugged_channel_as_any_other(host: Host) -> None:
    host.plug()
    consoles = asyncio.run(survey([host.xen.path])).consoles
    assert [(each.id, each.name, each.path) for each in consoles if each.id == "2"] == [("2", CHANNEL_NAME, str(host.path()))]


def test_a_terminal_is_plugged_with_its_name_where_only_dom0_can_write(host: Host) -> None:
    plugged = host.plug(pty=True, path=None)
    assert (plugged.connection, plugged.path) == ("pty", "/dev/pts/77")
    tty = host.xen.snapshot()[f"/local/domain/{DOMID}/device/console/2/tty"]
    assert tty == ("/dev/pts/77", ("n0", "r7"))
    assert f"/libxl/{DOMID}/device/console/2/path" not in host.xen.snapshot()
    host.unplug(CHANNEL_NAME)
    assert host.qemu.ours() == {"libxl-channel0"}


def test_a_vm_is_meant_by_its_uuid_too(host: Host) -> None:
    wanted = Wanted(UUID.upper(), CHANNEL_NAME, host.path(), seconds=LONG)
    assert asyncio.run(plug(wanted, host.places, host.said.append)).domain.domid == DOMID


def test_plugging_and_unplugging_twenty_times_leaves_nothing_and_uses_one_id(host: Host) -> None:
    before = host.state()
    for _ in range(20):
        assert host.plug().console == 2
        assert host.unplug(CHANNEL_NAME).console == 2
        assert host.state() == before


def test_a_services_second_link_to_the_socket_goes_with_the_channel(host: Host) -> None:
    before = host.state()
    host.plug()
    kept_links.keep(host.path())
    assert host.state()[2] != before[2]
    host.unplug(CHANNEL_NAME)
    assert host.state() == before


def test_a_vm_that_never_had_a_channel_gets_its_first_and_nothing_is_left_of_it(host: Host) -> None:
    host.xen.rm(f"/local/domain/{DOMID}/device/console/0")  # libxl has the primary console elsewhere
    host.unplug(OTHER)
    before = host.state()
    assert f"/local/domain/{DOMID}/device/console" not in before[0]
    assert host.plug().console == 1
    host.unplug(CHANNEL_NAME)
    assert host.state() == before


def test_a_transaction_that_meets_others_is_repeated(host: Host) -> None:
    left = [5]

    def before(operation: int, _: str) -> None:
        if operation == END and left[0]:
            left[0] -= 1
            host.xen.write("/local/domain/99/busy", left[0])

    host.xen.before = before
    host.plug()
    assert left == [0]


def test_a_transaction_is_not_repeated_for_ever_and_qemus_end_goes_again(host: Host) -> None:
    def before(operation: int, _: str) -> None:
        if operation == END:
            host.xen.write("/local/domain/99/busy", "1")

    host.xen.before = before
    with pytest.raises(HostError, match=r"came between 40 times; try again .*; everything was undone"):
        host.plug()
    assert host.qemu.ours() == {"libxl-channel0"}
    assert f"/libxl/{DOMID}/device/console/2" not in host.xen.snapshot()


# doing it twice


def test_plugging_what_is_there_is_good_and_changes_nothing(host: Host) -> None:
    host.plug()
    before = host.state()
    for path in (host.path(), None):
        plugged = host.plug(path=path)
        assert (plugged.already, plugged.console, plugged.path) == (True, 2, str(host.path()))
    assert host.state() == before


def test_a_name_that_is_taken_by_another_channel_is_told_with_its_cure(host: Host) -> None:
    host.plug()
    before = host.state()
    for different in ({"path": host.sockets / "elsewhere.sock"}, {"pty": True, "path": None}):
        with pytest.raises(HostError, match=rf"a channel {CHANNEL_NAME} is there, console 2, .*unplug web1 2"):
            host.plug(**different)
    assert host.state() == before


def test_what_is_there_and_not_connected_is_told(host: Host) -> None:
    host.xen.channel(DOMID, 3, Channel("org.example.dead", str(host.sockets / "dead.sock")))
    host.qemu.spoilt.add(3)
    with pytest.raises(HostError, match="is there, console 3, and not connected: QEMU's end is in state 1, the guest's in 1"):
        host.plug("org.example.dead", seconds=0.1, path=None)


# refusals


def refused(host: Host, *words: str, **more: Any) -> str:
    """What is said; nothing has changed, and QEMU was told nothing."""
    before = host.state()
    with pytest.raises(HostError) as told:
        host.plug(**more)
    for word in words:
        assert word in str(told.value)
    assert host.state() == before
    assert "chardev-add" not in host.qemu.commands()
    return str(told.value)


def test_a_vm_that_does_not_run_is_refused_with_those_that_do(host: Host) -> None:
    with pytest.raises(HostError, match=r"no running domain has the name or uuid db9; running: web1"):
        asyncio.run(plug(Wanted("db9", CHANNEL_NAME), host.places, host.said.append))


def test_two_domains_of_one_name_are_refused_with_their_uuids(host: Host) -> None:
    host.xen.create(8, "web1", "1f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01", device_model=1)
    refused(host, "2 running domains are called web1", UUID, "say which by its uuid")


def test_a_domain_without_a_qemu_is_refused(host: Host) -> None:
    host.xen.rm(f"/local/domain/{DOMID}/image/device-model-pid")
    refused(host, "domain web1 (7) has no QEMU to plug a channel into", "create it anew")


@pytest.mark.parametrize("home", [f"/local/domain/{DOMID}", f"/vm/{UUID}"])
def test_a_qemu_in_a_stubdomain_is_refused(host: Host, home: str) -> None:
    host.xen.write(f"{home}/image/device-model-domid", "9")
    refused(host, "its QEMU runs in the stubdomain 9")


def test_an_eighth_channel_is_refused(host: Host) -> None:
    for index in range(2, 8):
        host.xen.channel(DOMID, index, Channel(f"org.example.n{index}", str(host.sockets / f"{index}.sock")))
        host.qemu.spoilt.add(index)
    refused(host, "7 channels are in use (consoles 1, 2, 3, 4, 5, 6, 7)", "unplug another one first")


@pytest.mark.parametrize("name", ["", "two words", "a,b", "-x", "x" * 129, "é", "../x"])
def test_a_name_that_is_none_is_refused(host: Host, name: str) -> None:
    with pytest.raises(HostError, match=r"--name .*: a channel's name has"):
        host.plug(name, path=host.sockets / "x.sock")


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("relative.sock", "is not absolute"),
        ("/run/../x", "leads upwards"),
        (f"/run/{'x' * 110}", "107 bytes"),
        ("/run/\x1b.sock", "has characters"),
        ("/nonexistent/x.sock", "No such file or directory; cure: make it"),
    ],
)
def test_a_path_that_is_none_is_refused(host: Host, path: str, word: str) -> None:
    refused(host, word, path=Path(path))


def test_a_directory_that_others_may_write_to_is_refused(host: Host) -> None:
    (host.work / "open").mkdir()
    (host.work / "open").chmod(0o777)
    refused(host, "everybody may write there", path=host.work / "open" / "x.sock")


def test_a_path_of_another_channel_is_refused_with_whose_it_is(host: Host) -> None:
    host.xen.create(8, "db1", channels=[Channel(CHANNEL_NAME, str(host.sockets / "db1.sock"))], device_model=1)
    host.qemu.settle()
    refused(host, f"is the path of channel {CHANNEL_NAME} of db1 (8); cure: another --path", path=host.sockets / "db1.sock")


def test_a_path_on_which_somebody_listens_is_refused_with_who_it_is(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(host.path()))
        listener.listen()
        refused(host, "is in use: pid", "listens there; cure: another --path")


def test_a_file_that_is_no_socket_is_left_alone(host: Host) -> None:
    host.path().write_text("precious")
    refused(host, "is no socket, and QEMU would remove it")
    assert host.path().read_text() == "precious"


def test_a_dead_qemus_socket_is_no_hindrance(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(host.path()))
    assert host.plug().path == str(host.path())


def test_while_another_has_libxls_lock_nothing_is_asked_of_qemu(host: Host) -> None:
    lock = lock_of(DOMID, uuid_bytes(UUID), host.work / "lib")
    host.places = host.places._replace(connect_seconds=0.2)
    with lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(HostError, match=rf"another program, pid {os.getpid()} .*, has had libxl's lock"):
            host.plug()
    assert host.qemu.clients == 0


def test_two_at_once_get_two_ids(host: Host) -> None:
    async def both() -> list[int]:
        wanted = [Wanted("web1", name, host.path(name), seconds=LONG) for name in ("org.example.a", "org.example.b")]
        return [each.console for each in await asyncio.gather(*(plug(one, host.places, host.said.append) for one in wanted))]

    assert sorted(asyncio.run(both())) == [2, 3]


# ids


def test_an_id_of_which_only_qemu_has_something_is_not_used(host: Host) -> None:
    host.qemu.chardevs["libxl-channel2"] = "disconnected:unix:/old,server=on"
    assert host.plug().console == 3


@pytest.mark.parametrize("node", [f"/local/domain/{DOMID}/device/console/2", f"/local/domain/0/backend/console/{DOMID}/2/x"])
def test_an_id_of_which_only_xenstore_has_something_is_not_used(host: Host, node: str) -> None:
    host.xen.write(node, "")
    assert host.plug().console == 3


def test_an_id_that_was_spoilt_in_this_qemus_life_is_given_up_and_the_next_one_taken(host: Host) -> None:
    host.qemu.spoilt |= {2, 3}
    before = host.state()
    assert host.plug(taken_seconds=0.3).console == 4
    assert ["console 2" in host.said[0], "console 3" in host.said[1]] == [True, True]
    host.unplug(CHANNEL_NAME)
    assert host.state() == before


def test_a_qemu_that_takes_no_console_at_all_is_told_and_nothing_is_left(host: Host) -> None:
    host.qemu.spoilt |= set(range(2, 10))
    before = host.state()
    with pytest.raises(HostError, match=r"QEMU does not take up console 4: .* everything was undone"):
        host.plug(taken_seconds=0.1)
    assert host.state() == before


def test_where_qemu_has_spoilt_all_ids_that_is_told(host: Host) -> None:
    host.qemu.chardevs |= {f"libxl-channel{number}": "null" for number in range(2, 10)}
    refused(host, "no console's id is left", "unplug them by their ids")


# what goes wrong half-way


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a guest that never answers."""
    monkeypatch.setattr(hotplug_closing, "_QEMU_SECONDS", 1.5)


@pytest.mark.usefixtures("hasty")
def test_a_guest_that_does_not_take_it_up_gets_nothing_and_qemu_is_as_before(host: Host) -> None:
    host.qemu.guest_answers = False
    before = host.state()
    with pytest.raises(HostError, match=r"the guest did not take up console 2 within 0\.2 s .*paused.*; everything was undone"):
        host.plug(seconds=0.2)
    assert host.state() == before


@pytest.mark.usefixtures("hasty")
def test_a_services_second_link_to_a_socket_that_did_not_stay_goes_too(host: Host) -> None:
    kept: list[Path] = []

    def keep(operation: int, path: str) -> None:
        if operation == END:
            kept_links.keep(host.path())
            kept.extend(link for link in kept_links.links(host.path()) if link.exists())

    host.qemu.guest_answers = False
    before = host.state()
    host.xen.before = keep
    with pytest.raises(HostError, match="everything was undone"):
        host.plug(seconds=0.2)
    assert kept
    assert host.state() == before


def test_a_character_device_that_qemu_refuses_is_the_end_and_another_ones_is_not_removed(host: Host) -> None:
    def refuse(_: Any) -> None:
        raise Oops("Failed to bind socket to /x: Permission denied")

    host.qemu.answers["chardev-add"] = refuse
    before = host.state()
    with pytest.raises(HostError, match=r"QEMU refuses chardev-add: Failed to bind socket .*; everything was undone"):
        host.plug()
    assert host.state() == before
    assert "chardev-remove" not in host.qemu.commands()


def test_a_qemu_that_makes_its_socket_out_of_dom0s_sight_is_refused(host: Host) -> None:
    def elsewhere(arguments: Any) -> dict[str, Any]:
        host.qemu.chardevs[arguments["id"]] = "disconnected:unix:/chroot,server=on"
        return {}

    host.qemu.answers["chardev-add"] = elsewhere
    before = host.state()
    with pytest.raises(HostError, match="runs in another root directory; everything was undone"):
        host.plug()
    assert host.state() == before


def test_a_qemu_that_crashes_at_the_character_device_is_told_and_what_may_be_left_too(host: Host) -> None:
    host.qemu.hang_up.add("chardev-add")
    before = host.state()
    with pytest.raises(HostError, match=r"closed the connection before it answered chardev-add.*not all could be undone"):
        host.plug()
    assert host.state() == before


def test_xenstore_that_refuses_a_node_leaves_qemu_as_before(host: Host) -> None:
    host.xen.refusing[f"/local/domain/0/backend/console/{DOMID}/2/name"] = "EQUOTA"
    before = host.state()
    with pytest.raises(HostError, match="EQUOTA; everything was undone"):
        host.plug()
    assert host.state() == before


def test_a_xenstored_that_dies_is_told_and_qemus_end_goes_all_the_same(host: Host) -> None:
    def before(operation: int, _: str) -> None:
        if operation == END:
            host.xen.before = lambda operation, path: None
            host.xen.cut()

    state = host.state()
    host.xen.before = before
    with pytest.raises(HostError, match="xenstored closed the connection; not all could be undone: xenstored closed"):
        host.plug()
    assert host.state() == state


@pytest.mark.usefixtures("hasty")
def test_a_busy_character_device_that_stays_busy_is_told_and_its_id_not_used_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(arguments: Any) -> None:
        raise Oops(f"Chardev '{arguments['id']}' is busy")

    monkeypatch.setattr("host_agent.qemu.hotplug_chardev._FREE_SECONDS", 0.1)
    removes, host.qemu.answers["chardev-remove"] = host.qemu.answers["chardev-remove"], busy
    host.qemu.guest_answers = False
    with pytest.raises(HostError, match=r"not all could be undone: .* Chardev 'libxl-channel2' is busy"):
        host.plug(seconds=0.1)
    host.qemu.answers["chardev-remove"], host.qemu.guest_answers = removes, True
    assert host.plug(path=host.sockets / "another.sock").console == 3
    assert host.unplug("2").name == ""
    assert host.qemu.ours() == {"libxl-channel0", "libxl-channel3"}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["chardev-add", "handshake"])
def test_whoever_ends_it_half_way_leaves_nothing_behind(host: Host, number: signal.Signals, command: str) -> None:
    before = host.state()
    if command == "handshake":
        host.qemu.guest_answers = False
    else:
        host.qemu.silent.add(command)

    async def ended() -> None:
        work = asyncio.create_task(plug(Wanted("web1", CHANNEL_NAME, host.path(), seconds=LONG), host.places, host.said.append))
        wanted = {"chardev-add": lambda: "chardev-add" in host.qemu.commands(), "handshake": is_waiting}[command]
        async with asyncio.timeout(LONG):
            while not wanted():
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), number)
        try:
            await work
        except asyncio.CancelledError:
            os.kill(os.getpid(), number)  # a second one is not heard
            raise

    def is_waiting() -> bool:
        return host.xen.value(f"/local/domain/0/backend/console/{DOMID}/2/state") == "0"

    async def cancelling() -> None:
        task = asyncio.current_task()
        assert task is not None
        await ended()

    with pytest.raises(SystemExit) as status:
        run(cancelling())
    assert status.value.code == 128 + number
    assert host.state() == before


# unplugging


def test_a_channel_of_the_domains_creation_is_unplugged_by_what_xenstore_says_of_qemus_end(host: Host) -> None:
    gone = host.unplug(OTHER)
    assert (gone.console, gone.name) == (1, OTHER)
    assert host.qemu.ours() == set()
    assert not [path for path in host.xen.snapshot() if "/console/1" in path or path.endswith(f"/console/{DOMID}/1")]


def test_a_guest_that_removed_its_own_nodes_does_not_keep_qemus_end(host: Host) -> None:
    host.plug()
    host.xen.rm(f"/local/domain/{DOMID}/device/console/2")
    host.unplug(CHANNEL_NAME, force=True, seconds=0.1)
    assert not host.path().exists()
    assert host.qemu.ours() == {"libxl-channel0"}


def test_a_guest_that_does_not_answer_keeps_its_channel(host: Host) -> None:
    host.plug()
    before = host.state()
    host.qemu.guest_answers = False
    with pytest.raises(HostError, match=r"the guest does not close its end within 0\.2 s .*--force .*; everything was undone"):
        host.unplug(CHANNEL_NAME, seconds=0.2)
    assert host.state() == before


def test_a_guest_that_closes_just_then_is_told_and_the_next_unplug_finishes_it(host: Host) -> None:
    host.plug()
    host.qemu.guest_answers = False

    def before(operation: int, path: str) -> None:
        if operation == END and host.xen.value(f"/local/domain/0/backend/console/{DOMID}/2/state") == "5":
            host.xen.before = lambda operation, path: None
            host.xen.write(f"/local/domain/{DOMID}/device/console/2/state", "6")

    host.xen.before = before
    with pytest.raises(HostError, match="not all could be undone: the guest has closed the channel meanwhile: unplug it again"):
        host.unplug(CHANNEL_NAME, seconds=0.2)
    host.unplug("2")
    assert not host.path().exists()


@pytest.mark.usefixtures("hasty")
def test_force_takes_it_from_a_guest_that_does_not_answer_and_qemu_keeps_nothing(host: Host) -> None:
    before = host.state()
    host.plug()
    host.qemu.guest_answers = False
    host.unplug(CHANNEL_NAME, seconds=0.1, force=True)
    assert host.state() == before


def test_a_channel_that_is_not_there_is_told_with_those_that_are(host: Host) -> None:
    before = host.state()
    for which in ("org.example.none", "5", "0", "1x"):
        with pytest.raises(HostError, match=rf"has no channel {which}; its channels: {OTHER} \(1\)"):
            host.unplug(which)
    assert host.state() == before


def test_two_channels_of_one_name_are_told_apart_by_their_ids(host: Host) -> None:
    host.xen.channel(DOMID, 2, Channel(OTHER, str(host.sockets / "second.sock")))
    with pytest.raises(HostError, match="consoles 1, 2; say which"):
        host.unplug(OTHER)
    assert host.unplug("1").console == 1


def test_unplugging_again_finishes_what_was_ended_before_qemus_end_went(host: Host) -> None:
    host.plug()
    host.qemu.hang_up.add("chardev-remove")
    with pytest.raises(HostError, match=r"the channel is gone from the guest, but .* console 2 is not used again"):
        host.unplug(CHANNEL_NAME)
    host.qemu.hang_up.clear()
    assert "libxl-channel2" in host.qemu.ours()
    assert host.unplug("2").console == 2
    assert host.qemu.ours() == {"libxl-channel0"}
    assert not host.path().exists()


def test_an_id_whose_chardev_another_console_uses_is_not_unplugged(host: Host) -> None:
    host.qemu.chardevs["libxl-channel5"] = host.qemu.chardevs.pop("libxl-channel0")
    host.xen.write(f"/local/domain/{DOMID}/device/console/1/output", "chardev:libxl-channel5", owner=0)
    with pytest.raises(HostError, match="has no channel 5"):
        host.unplug("5")


# the command


def test_the_default_path_is_of_the_vms_name_or_where_that_is_none_of_its_uuid() -> None:
    domain = Domain(7, uuid_bytes(UUID), "web1")
    assert path_of(domain, CHANNEL_NAME) == Path("/run/pv-channel/web1.sock")
    assert path_of(domain, OTHER) == Path(f"/run/pv-channel/web1.{OTHER}.sock")
    assert path_of(domain._replace(name="a/b"), CHANNEL_NAME) == Path(f"/run/pv-channel/{UUID}.sock")


def test_the_agents_own_directory_is_made_where_it_is_missing(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = tmp_path / "pv-channel"
    monkeypatch.setattr(hotplug_choice, "DIRECTORY", directory)
    host.plug(path=directory / "web1.sock")
    assert directory.stat().st_mode & 0o777 == 0o700


def test_the_verbs_say_what_they_did(host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Places, "usual", lambda: host.places)
    words = ["plug", "web1", "--name", OTHER + "2", "--path", str(host.path())]
    assert main(words) == 0
    assert capsys.readouterr().out.endswith(f": {OTHER}2 of domain web1 (7), console 2: {host.path()}\n")
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("there already: ")
    assert main([*words, "--json"]) == 0
    assert '"already": true' in capsys.readouterr().out
    assert main(["unplug", "web1", "2", "--json"]) == 0
    assert '"console": 2' in capsys.readouterr().out
    assert main(["unplug", "web1", "2"]) == 1
    assert "has no channel 2" in capsys.readouterr().err
    assert main(["plug", "web1", "--name", "no name"]) == 1
    with pytest.raises(SystemExit, match="2"):
        main(["plug", "web1", "--pty", "--path", "/x"])
