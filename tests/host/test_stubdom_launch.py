# SPDX-License-Identifier: Apache-2.0
"""The launcher inside a stubdomain: what it reads and starts, what the toolstack sees of it, and how each party's end is told."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.stubdom.launch import main
from host_agent.stubdom.launch_failure import MEANINGS, LaunchError, Status
from host_agent.stubdom.launch_monitor import Monitor
from host_agent.stubdom.launch_xenstore import Xenstore
from tests.host.fake_stubdom_qemu import END
from tests.host.fake_xenstored import RM, WRITE, FakeXenstored
from tests.host.stubdomain import ARGV, HOME, RESTORE, STUBDOMAIN, TARGET, TOP, Stubdomain, alive, kill, publish, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.stubdomain import Launcher

#: No shell, no line of xenstore-read and no decoder would leave these as they are.
HOSTILE = (b"a\tb", b"a\nb", b"'\"\\", b"$HOME `id`", "é\N{PILE OF POO}".encode(), bytes(range(1, 256)), b"", b" ", b"x" * 3000)
MODULE = "host_agent.stubdom.launch"
EVERY_BYTE = bytes(range(256))


class Fails(Protocol):
    """The fixture `fails`: a launcher with *options* ends with *status*, one sentence with *words*, and starts nothing."""

    def __call__(self, status: Status, words: str, *options: str | Path) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FakeXenstored]:
    with FakeXenstored(tmp_path / "xenstored") as running:
        publish(running, b"-name", b"web1")
        yield running


@pytest.fixture
def stubdomain(tmp_path: Path, store: FakeXenstored) -> Iterator[Stubdomain]:
    with Stubdomain(tmp_path, store.path) as inside:
        yield inside


def runs(store: FakeXenstored, launcher: Launcher) -> None:
    """Wait until the toolstack may take the device model for running."""
    until(lambda: store.value(f"{HOME}/state") == "running", launcher)


@pytest.fixture
def fails(stubdomain: Stubdomain, capfd: pytest.CaptureFixture[str]) -> Fails:
    def failed(status: Status, words: str, *options: str | Path) -> None:
        assert main(stubdomain.options(*options)) == status
        out, said = capfd.readouterr()
        assert (out, said.count("\n")) == ("", 1), said
        assert words in said
        assert not stubdomain.record.exists()

    return failed


# -- what QEMU gets


def test_every_argument_arrives_byte_for_byte(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    publish(store, *HOSTILE)
    runs(store, stubdomain.launch())
    assert stubdomain.arguments()[: len(HOSTILE)] == list(HOSTILE)


def test_qemu_gets_a_socket_for_qmp_and_console_1_and_no_descriptor_beside_what_is_named(
    stubdomain: Stubdomain, store: FakeXenstored
) -> None:
    runs(store, stubdomain.launch())
    added = stubdomain.arguments()[2:]
    assert added[::2] == [b"-add-fd", b"-qmp", b"-chardev", b"-mon", *[b"-global"] * 3]
    assert added[3] == b"unix:%b,server=on,wait=off" % os.fsencode(stubdomain.directory / "qmp.sock")
    (save,) = re.findall(rb"^fd=(\d+),set=1$", added[1])
    (monitor,) = re.findall(rb",fd=(\d+)$", added[5])
    # The lock is the fourth, and the fake's own look at the directory the fifth.
    others = set(stubdomain.recorded()["descriptors"]) - {0, 1, 2, int(save), int(monitor)}
    assert len(others) == 2
    assert stubdomain.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "given",
    [(b"-global", b"migration.send-configuration=off"), (b"-global", b"driver=migration,property=send-configuration,value=off")],
)
def test_what_the_toolstack_has_set_is_not_set_again(
    stubdomain: Stubdomain, store: FakeXenstored, given: tuple[bytes, ...]
) -> None:
    publish(store, *given, b"-machine", b"pc,suppress-vmdesc=on", *RESTORE)
    launcher = stubdomain.launch()
    until(lambda: store.value(f"{HOME}/restore") == "ready", launcher)
    arguments = b" ".join(stubdomain.arguments())
    assert [arguments.count(name) for name in (b"send-configuration", b"send-section-footer", b"suppress-vmdesc")] == [1, 1, 1]


@pytest.mark.parametrize("machine", [b"xenfv", b"xenpv,usb=off", b"pc,accel=xen", b"pc,accel=tcg:xen,usb=off"])
def test_qemus_xen_accelerator_is_trusted_to_set_its_own(
    stubdomain: Stubdomain, store: FakeXenstored, capfd: pytest.CaptureFixture[str], machine: bytes
) -> None:
    publish(store, b"-machine", machine)
    assert main(stubdomain.options("--dry-run")) == 0
    assert "migration" not in capfd.readouterr().out


def test_a_word_that_is_no_value_of_incoming_stays(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    publish(store, b"-name", RESTORE[1], b"-incoming", b"tcp:0:4444")
    runs(store, stubdomain.launch())
    assert stubdomain.arguments()[:4] == [b"-name", RESTORE[1], b"-incoming", b"tcp:0:4444"]


def test_a_dry_run_prints_what_a_shell_takes_for_the_same_arguments_and_changes_nothing(
    stubdomain: Stubdomain, store: FakeXenstored
) -> None:
    publish(store, *HOSTILE, *RESTORE)
    launcher = stubdomain.launch("--dry-run")
    printed = launcher.printed()
    assert launcher.end() == 0
    assert all(0x20 <= byte < 0x7F for byte in printed.rstrip(b"\n"))
    script = b"printf '%s\\0' " + printed
    words = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.split(b"\0")[:-1]
    assert (words[0], words[1 : len(HOSTILE) + 1]) == (os.fsencode(stubdomain.qemu), list(HOSTILE))
    assert not stubdomain.directory.exists()
    assert [store.requests[operation] for operation in (WRITE, RM)] == [0, 0]
    real = stubdomain.launch()
    until(lambda: store.value(f"{HOME}/restore") == "ready", real)
    assert stubdomain.arguments() == words[1:]


# -- what the toolstack sees


def test_the_toolstack_has_qmp_once_the_device_model_runs(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    runs(store, stubdomain.launch())
    ((_, node),) = stubdomain.started_proxies()
    assert node == f"{HOME}/qmp-vchan"
    with stubdomain.monitor() as qmp:
        assert qmp.execute("query-status") == {"status": "running"}


def test_a_readiness_that_qemu_has_told_is_not_told_again(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    written: list[str] = []
    store.before = lambda operation, path: written.append(path) if operation == WRITE else None
    launcher = stubdomain.launch(FAKE_QEMU="says-running")
    until(lambda: "ready" in launcher.said(), launcher)
    assert written.count(f"{HOME}/state") == 1


def test_what_an_earlier_device_model_said_is_not_believed(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    for name in ("state", "restore", "qmp-vchan/event-channel"):
        store.write(f"{HOME}/{name}", "running")
    launcher = stubdomain.launch(FAKE_PROXY="announces-nothing")
    until(stubdomain.started_proxies, launcher)
    assert [store.value(f"{HOME}/{name}") for name in ("state", "restore", "qmp-vchan/event-channel")] == ["", "", ""]


def test_the_domain_that_it_is_in_is_asked_of_xenstore(
    stubdomain: Stubdomain, store: FakeXenstored, capfd: pytest.CaptureFixture[str]
) -> None:
    store.write("/local/domain/0/domid", STUBDOMAIN)  # who comes by a socket is domain 0
    options = stubdomain.options("--dry-run")
    at = options.index("--domid")
    assert main(options[:at] + options[at + 2 :]) == 0
    assert shlex.split(capfd.readouterr().out)[1:3] == ["-name", "web1"]


# -- state


def test_every_byte_of_the_state_arrives_in_dom0_whoever_has_the_terminal_open_meanwhile(
    stubdomain: Stubdomain, store: FakeXenstored
) -> None:
    runs(store, stubdomain.launch())
    with stubdomain.monitor() as qmp:
        for _ in range(2):
            qmp.execute("xen-save-devices-state", filename=os.fspath(stubdomain.save.path))
            assert stubdomain.save.read(256 + len(END)) == EVERY_BYTE + END
    assert stubdomain.save.rest() == b""


def test_every_byte_of_the_state_arrives_in_qemu_and_only_then_is_it_running(
    stubdomain: Stubdomain, store: FakeXenstored
) -> None:
    publish(store, *RESTORE)
    launcher = stubdomain.launch()
    until(lambda: store.value(f"{HOME}/restore") == "ready", launcher)
    state = (EVERY_BYTE * 40) + END
    assert stubdomain.arguments()[1].startswith(b"fd:")
    assert b"suppress-vmdesc=on" in stubdomain.arguments()
    stubdomain.restore.write(state[:-1])
    with stubdomain.monitor() as qmp:
        assert qmp.execute("query-status") == {"status": "inmigrate"}
    assert store.value(f"{HOME}/state") == ""
    stubdomain.restore.write(state[-1:])
    runs(store, launcher)
    with stubdomain.monitor() as qmp:
        assert bytes.fromhex(qmp.execute("query-state")) == state
    assert (store.value(f"{HOME}/restore"), stubdomain.restore.rest()) == ("", b"")


def test_a_state_that_stops_half_way_has_a_deadline(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    publish(store, *RESTORE)
    launcher = stubdomain.launch("--restore-timeout", "0.5")
    assert launcher.end() == Status.RESTORE
    assert "console 2: the state to restore was not complete after 0.5 s; QEMU is ended" in launcher.said()
    assert not alive(stubdomain.recorded()["pid"])


# -- ends


def test_qemus_end_is_the_launchers(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    launcher = stubdomain.launch()
    runs(store, launcher)
    with stubdomain.monitor() as qmp, pytest.raises(EOFError):
        qmp.execute("quit")
    assert launcher.end() == 0
    assert launcher.said().endswith(f"QEMU (process {stubdomain.recorded()['pid']}) exited with status 0\n")
    assert [store.value(f"{HOME}/{name}") for name in ("state", "qmp-vchan/event-channel")] == ["", ""]
    assert [pid for pid in stubdomain.pids() if alive(pid)] == []


def test_a_killed_qemu_is_told_as_what_it_is(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    launcher = stubdomain.launch()
    runs(store, launcher)
    kill(stubdomain.recorded()["pid"])
    assert launcher.end() == 128 + signal.SIGKILL
    assert "was ended by SIGKILL" in launcher.said()
    assert store.value(f"{HOME}/state") == ""


def test_a_qemu_that_ends_before_it_answers_is_told_with_its_status(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    launcher = stubdomain.launch(FAKE_QEMU="dies")
    assert launcher.end() == 3
    assert "exited with status 3" in launcher.said()
    assert (store.value(f"{HOME}/state"), stubdomain.started_proxies()) == ("", [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_is_passed_on(stubdomain: Stubdomain, store: FakeXenstored, number: int) -> None:
    launcher = stubdomain.launch()
    runs(store, launcher)
    assert launcher.stop(number) == 0
    assert [pid for pid in stubdomain.pids() if alive(pid)] == []


def test_a_qemu_that_does_not_end_is_killed(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    launcher = stubdomain.launch("--end-timeout", "0.3", FAKE_QEMU="stubborn")
    runs(store, launcher)
    assert launcher.stop() == 128 + signal.SIGKILL
    assert "QEMU has not ended within 0.3 s; it is killed" in launcher.said()


def test_a_killed_launcher_takes_its_programs_with_it_and_the_next_one_begins_anew(
    stubdomain: Stubdomain, store: FakeXenstored
) -> None:
    runs(store, stubdomain.launch())
    first = stubdomain.pids()
    stubdomain.launchers[0].stop(signal.SIGKILL)
    second = stubdomain.launch()
    until(lambda: "ready" in second.said(), second)
    assert [pid for pid in first if alive(pid)] == []
    with stubdomain.monitor() as qmp:
        assert qmp.execute("query-status") == {"status": "running"}


def test_no_second_launcher_starts_while_one_is_at_work(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    runs(store, stubdomain.launch())
    pid = stubdomain.recorded()["pid"]
    second = stubdomain.launch("--end-timeout", "0.2")
    assert second.end() == Status.DIRECTORY
    assert "another launcher is at work" in second.said()
    assert (stubdomain.recorded()["pid"], store.value(f"{HOME}/state")) == (pid, "running")


def test_a_proxy_that_ends_is_started_again_and_qemu_goes_on(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    launcher = stubdomain.launch()
    runs(store, launcher)
    for times in (1, 2):
        kill(stubdomain.started_proxies()[-1][0])
        until(lambda: len(stubdomain.started_proxies()) == times + 1, launcher)  # noqa: B023 -- called at once
    assert launcher.said().count("vchan-socket-proxy was ended by SIGKILL; it is started again in") == 2
    assert alive(stubdomain.recorded()["pid"])
    assert store.value(f"{HOME}/state") == "running"


# -- failures


def test_qemu_that_does_not_answer_has_a_deadline(stubdomain: Stubdomain) -> None:
    launcher = stubdomain.launch("--start-timeout", "0.5", FAKE_QEMU="mute")
    assert launcher.end() == Status.SILENT
    assert "QEMU did not answer within 0.5 s; it is ended" in launcher.said()
    (pid,) = re.findall(r"QEMU is process (\d+)", launcher.said())
    assert not alive(int(pid))


@pytest.mark.parametrize("behaviour", ["dies", "announces-nothing"])
def test_without_vchan_there_is_no_device_model(stubdomain: Stubdomain, store: FakeXenstored, behaviour: str) -> None:
    launcher = stubdomain.launch("--vchan-timeout", "0.5", FAKE_PROXY=behaviour)
    assert launcher.end() == Status.VCHAN
    assert f"{HOME}/qmp-vchan: not served after 0.5 s; QEMU is ended; cure: load the kernel modules" in launcher.said()
    assert store.value(f"{HOME}/state") == ""


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        (
            {f"/local/domain/{STUBDOMAIN}/target": None},
            Status.ORDERS,
            "target: no such node in xenstore; the toolstack writes it",
        ),
        ({f"/local/domain/{STUBDOMAIN}/target": b"7x"}, Status.ORDERS, "7x is no domain id"),
        ({f"/local/domain/{STUBDOMAIN}/target": b"32752"}, Status.ORDERS, "32752 is no domain id"),
        ({f"/local/domain/{STUBDOMAIN}/target": b"5"}, Status.ORDERS, "a domain is not its own device model"),
        ({f"/local/domain/{TARGET}/vm": None}, Status.ORDERS, "vm: no such node, where the target's /vm/UUID should be"),
        ({f"/local/domain/{TARGET}/vm": b"/local/domain/0"}, Status.ORDERS, "vm: /local/domain/0, where"),
        ({HOME: None}, Status.ORDERS, "device-model/7: no such node"),
        ({ARGV: None}, Status.ARGUMENTS, "no arguments for QEMU there"),
        ({f"{ARGV}/001": None}, Status.ARGUMENTS, "there is 002, and argument 001 is missing"),
        ({f"{ARGV}/004": b""}, Status.ARGUMENTS, "there is 004, and argument 003 is missing"),
        ({f"{ARGV}/3": b""}, Status.ARGUMENTS, "there is 3, and argument 003 is missing"),
        ({f"{ARGV}/x": b""}, Status.ARGUMENTS, "there is x, and argument 003 is missing"),
        ({f"{ARGV}/003": b"a\0b"}, Status.ARGUMENTS, "dm-argv/003: a NUL"),
        ({f"{ARGV}/003": b"-daemonize"}, Status.ARGUMENTS, "-daemonize: nobody could look after such a QEMU"),
        ({f"{ARGV}/{n:03d}": v for n, v in enumerate([*RESTORE, b"-incoming", b"defer"], 3)}, Status.ARGUMENTS, "more than once"),
    ],
)
def test_orders_that_cannot_be_followed(
    fails: Fails, store: FakeXenstored, changes: dict[str, bytes | None], status: Status, words: str
) -> None:
    for path, value in changes.items():
        if value is None:
            store.rm(path)
        else:
            store.write(path, value)
    fails(status, words)


def test_orders_without_an_end_are_refused(fails: Fails, store: FakeXenstored) -> None:
    for count, words in ((1000, "more than 999 arguments"), (1200, "more than 999 arguments")):
        publish(store, *[b""] * count)
        fails(Status.ARGUMENTS, words)
    publish(store, *[b"x" * 4000] * 300)
    fails(Status.ARGUMENTS, "more than 1048576 bytes of arguments")


def test_a_xenstore_that_is_none(fails: Fails, tmp_path: Path) -> None:
    words = "nowhere: No such file or directory: this is no Xen domain"
    fails(Status.XENSTORE, words, "--xenstore", tmp_path / "nowhere")


def test_a_xenstore_that_refuses(fails: Fails, store: FakeXenstored) -> None:
    store.refusing[f"/local/domain/{STUBDOMAIN}/target"] = "EACCES"
    fails(Status.XENSTORE, "xenstore: /local/domain/5/target: EACCES; cure: dom0 names")


def test_a_xenstore_that_goes_away_while_qemu_starts_ends_it(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    store.before = lambda operation, path: store.cut() if path == f"{HOME}/state" and operation == WRITE else None
    launcher = stubdomain.launch()
    assert launcher.end() == Status.XENSTORE
    assert "the connection ended" in launcher.said()
    assert [pid for pid in stubdomain.pids() if alive(pid)] == []


def test_a_xenstore_that_goes_away_later_is_not_needed(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    launcher = stubdomain.launch()
    until(lambda: "ready" in launcher.said(), launcher)
    store.cut()
    with stubdomain.monitor() as qmp:
        assert qmp.execute("query-status") == {"status": "running"}
    assert launcher.stop() == 0


@pytest.mark.parametrize("path", ["/dev/null", "/nowhere/hvc1", "/dev"])
@pytest.mark.parametrize("which", ["--save-console", "--restore-console"])
def test_a_console_that_is_none(fails: Fails, store: FakeXenstored, which: str, path: str) -> None:
    publish(store, *RESTORE)
    fails(Status.CONSOLE, f"{path}: ", which, path)


def test_a_console_that_is_not_needed_need_not_be_there(stubdomain: Stubdomain, store: FakeXenstored) -> None:
    runs(store, stubdomain.launch("--restore-console", "/nowhere/hvc2"))


@pytest.mark.parametrize("which", ["--qemu", "--vchan-socket-proxy"])
def test_a_program_that_is_missing(fails: Fails, which: str) -> None:
    fails(Status.PROGRAM, "/nowhere/program: there is no such program; cure: ", which, "/nowhere/program")


def test_a_program_that_is_none(fails: Fails, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    fails(Status.PROGRAM, "broken cannot be started: Exec format error", "--qemu", broken)


def test_a_directory_that_others_can_use(fails: Fails, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    fails(Status.DIRECTORY, "shared: others can use it, too", "--directory", shared)
    fails(Status.DIRECTORY, "link: ", "--directory", link)
    fails(Status.DIRECTORY, "too long a path for a socket", "--directory", tmp_path / ("x" * 100))


@pytest.mark.parametrize("option", [["--poweroff"], ["--domid", "-1"], ["--domid", "32752"], ["--start-timeout", "0"]])
def test_wrong_usage_is_told_as_such(stubdomain: Stubdomain, capfd: pytest.CaptureFixture[str], option: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(stubdomain.options(*option))
    assert ended.value.code == 2
    assert "usage: pv-stubdom-launch" in capfd.readouterr().err


# -- what it is made of


def test_it_runs_by_pythons_own_library_alone_from_a_copied_tree(
    store: FakeXenstored, stubdomain: Stubdomain, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    for file in [TOP / "host_agent/__init__.py", *(TOP / "host_agent/stubdom").glob("*.py")]:
        mine = file.name.startswith(("launch", "console_map", "__init__"))
        if mine:
            copy = tree / file.relative_to(TOP)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    start = f"import runpy, sys; sys.path.insert(0, {str(tree)!r}); runpy.run_module({MODULE!r}, run_name='__main__')"
    command: list[str] = [sys.executable, "-S", "-I", "-W", "error", "-c", start, *stubdomain.options("--dry-run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert shlex.split(done.stdout)[1:3] == ["-name", "web1"]


def test_the_help_says_what_each_exit_status_means() -> None:
    helped = subprocess.run([sys.executable, "-m", MODULE, "--help"], capture_output=True, text=True, check=True, cwd=TOP).stdout
    assert set(MEANINGS) == set(Status)
    for status, meaning in MEANINGS.items():
        assert f"  {status.value}   {meaning}\n" in helped


@given(
    data=st.binary(max_size=200), answer=st.sampled_from([1, 2, 11, 16]), request=st.integers(0, 2), length=st.integers(0, 5000)
)
def test_whatever_xenstored_says_there_is_an_answer_or_an_error(data: bytes, answer: int, request: int, length: int) -> None:
    ours, daemon = socket.socketpair()
    store = Xenstore(ours.detach(), seconds=0.001)
    daemon.sendall(struct.pack("=IIII", answer, request, 0, length) + data)
    try:
        assert store.read("target") == (data[:length] if (answer, request) == (2, 1) else None)
    except LaunchError:
        assert (answer, request, length) != (2, 1, min(length, len(data)))
    finally:
        store.close()
        daemon.close()


@given(pieces=st.lists(st.binary(max_size=200) | st.sampled_from([b'{"return": {"status": 1}}\n', b"[]\n", b'{"QMP": 1}\n'])))
def test_whatever_qemu_says_is_objects_or_nothing(pieces: list[bytes]) -> None:
    monitor = Monitor()
    said = []
    for piece in pieces:
        monitor.qemus.sendall(piece)
        said += monitor.taken()
    monitor.handed_over()
    assert monitor.taken() == []
    assert monitor.descriptor is None
    monitor.close()
    assert all(isinstance(each, dict) for each in said)
