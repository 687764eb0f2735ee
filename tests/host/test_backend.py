# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent backend` as a process, with the options of QEMU's backend programs: by path, descriptor or systemd; its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from host_agent.backends.capabilities import BadCapabilities, parse
from host_agent.backends.given_socket import activated, chosen, given
from host_agent.errors import HostError
from host_agent.views.status import View
from tests.host.fakes import FakeGuest, FakeQemu

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOP = Path(__file__).parents[2]
DOCUMENT = "instance-id: i-1\nlocal-hostname: web1\n"
DEADLINE_SECONDS = 60.0


class Backend:
    """The program with these words, and its end; what it printed is in *said*."""

    def __init__(self, work: Path, *words: str, keep: Sequence[int] = (), before: str = "", **environment: str) -> None:
        self.log = work / "backend.log"
        program = f'{before}exec "{sys.executable}" -m host_agent backend "$@"'
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["/bin/bash", "-c", program, "bash", *words], cwd=TOP, env=os.environ | environment, pass_fds=keep,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ended(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def terminated(self) -> int:
        self.process.terminate()
        return self.ended()

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not true():
            assert self.process.poll() is None, f"it ended: {self.said}"
            assert time.monotonic() < deadline, f"{what}: {self.said}"
            time.sleep(0.02)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with a document and a state with this host's key."""
    (tmp_path / "web1.yaml").write_text(DOCUMENT)
    return tmp_path


def words(work: Path, *more: str) -> list[str]:
    return ["--document", str(work / "web1.yaml"), "--state", str(work / "state"), *more]


def hostnames(guest: FakeGuest) -> list[str]:
    return [str(document.local_hostname) for document in guest.applied]


class FakeVm:
    """The other end of a connected pair, with *guest* behind it."""

    def __init__(self, guest: FakeGuest) -> None:
        self.guest = guest
        self.end, self.ours = socket.socketpair()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.ours.close()
        self._thread.join()
        self.end.close()

    def close(self) -> None:
        """QEMU leaves."""
        self.end.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while data := self.end.recv(65536):
            try:
                self.end.sendall(self.guest.receive(data))
            except OSError:
                return


def test_capabilities_are_told_whatever_else_is_said(work: Path, tmp_path: Path) -> None:
    for more in ([], ["--bogus", "x", "y"], ["--fd=999", "--socket-path=/nowhere"], ["--fd=no", "--help"], ["--"]):
        with Backend(work, *more, "--print-capabilities") as backend:
            assert backend.ended() == 0, backend.said
            capabilities = parse(backend.said.encode())
            assert (capabilities.type, "document" in capabilities.features) == ("pv-channel", True)
        assert not (work / "state").exists()


def test_each_feature_that_is_reported_is_one_that_there_is(work: Path) -> None:
    with Backend(work, "--help") as backend:
        assert backend.ended() == 0
        helped = backend.said
    with Backend(work, "--print-capabilities") as backend:
        assert backend.ended() == 0
        features = set(json.loads(backend.said)["features"])
    assert features - {"socket-activation"} == {name for name in features if f"--{name}" in helped}
    assert "systemd passes" in helped


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--fd=3", "--socket-path=/nowhere"], "not allowed with"),
        (["--socket-path=/nowhere", "--fd=3"], "not allowed with"),
        (["--fd=x"], "expected the number of a descriptor"),
        (["--fd=-1"], "expected the number of a descriptor"),
        (["--fd=999"], "--fd=999: Bad file descriptor"),
        (["--fd=0"], "--fd=0: Socket operation on non-socket"),
        (["--fd=1"], "this is where messages go"),
        (["--socket-path=/nowhere/vm1.sock"], "/nowhere/vm1.sock: no such socket"),
        ([], "no socket; cure: --socket-path=PATH or --fd=FDNUM"),
        (["--fd=3", "web1"], "which document?"),
    ],
)
def test_what_cannot_be_done_ends_it_early_with_a_sentence(work: Path, more: list[str], complaint: str) -> None:
    with Backend(work, *words(work, "--no-ledger", *more)) as backend:
        assert backend.ended() != 0
        assert complaint in backend.said
        assert "Traceback" not in backend.said


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["nobody"], "nobody: no document in"),
        (["../web1"], "../web1: not a VM's name"),
        (["--document", "/nowhere.yaml"], "/nowhere.yaml"),
        ([], "which document?"),
    ],
)
def test_a_vm_without_a_document_is_a_reason_to_end(work: Path, asked: list[str], complaint: str) -> None:
    asked = [*asked, "--documents", str(work), "--state", str(work / "state"), "--socket-path=/nowhere/vm1.sock"]
    with Backend(work, *asked) as backend:
        assert backend.ended() == 1
        assert complaint in backend.said


def test_without_a_key_of_this_host_or_a_place_for_one_it_ends(work: Path) -> None:
    asked = ["--document", str(work / "web1.yaml"), "--state", "/proc/1/no", "--no-ledger", "--socket-path=/x"]
    with Backend(work, *asked) as backend:
        assert backend.ended() == 1
        assert "--state names another directory" in backend.said


def test_a_guest_at_a_path_is_served_until_sigterm_and_is_on_record(work: Path) -> None:
    guest = FakeGuest()
    with FakeQemu(work / "vm1.sock", guest), Backend(work, *words(work, f"--socket-path={work / 'vm1.sock'}")) as backend:
        backend.until(lambda: hostnames(guest) == ["web1"], "the document")
        backend.until(lambda: "generation 1: applied" in backend.said, "its answer")
        assert backend.terminated() == 0
    view = View(work / "state")
    found = view.one("web1")
    view.close()
    assert found is not None
    assert found["generation-applied"] == 1


def test_at_a_path_the_vm_may_restart(work: Path) -> None:
    guest, path = FakeGuest(), work / "vm1.sock"
    qemu = FakeQemu(path, guest)
    with qemu, Backend(work, *words(work, "--no-ledger", f"--socket-path={path}")) as backend:
        backend.until(lambda: hostnames(guest) == ["web1"], "the document")
        guest.restart()
        qemu.cut()
        backend.until(lambda: len(guest.opened) == 2, "a session after the cut")
        assert backend.terminated() == 0
    assert hostnames(guest) == ["web1"]


def test_a_guest_behind_a_descriptor_is_served_to_the_end_of_the_stream(work: Path) -> None:
    guest = FakeGuest()
    with FakeVm(guest) as vm:
        number = vm.ours.fileno()
        with Backend(work, *words(work, "--no-ledger", f"--fd={number}"), keep=[number]) as backend:
            vm.ours.close()
            backend.until(lambda: hostnames(guest) == ["web1"], "the document")
            vm.close()
            assert backend.ended() == 0
    assert not (work / "state/ledger.sqlite").exists()


def test_sigterm_ends_it_while_nobody_answers(work: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Backend(work, *words(work, f"--fd={ours.fileno()}"), keep=[ours.fileno()]) as backend:
        assert theirs.recv(1)
        assert backend.terminated() == 0


def test_a_listening_descriptor_is_accepted_on_once(work: Path) -> None:
    guest, path = FakeGuest(), work / "listener"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        with Backend(work, *words(work, "--no-ledger", f"--fd={listener.fileno()}"), keep=[listener.fileno()]) as backend:
            vm = FakeVm(guest)
            vm.end.close()
            vm.end = socket.socket(socket.AF_UNIX)
            vm.end.connect(os.fspath(path))
            with vm:
                backend.until(lambda: hostnames(guest) == ["web1"], "the document")
            assert backend.ended() == 0


def test_sigterm_ends_it_while_it_waits_for_a_connection(work: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        for end, name in ((listener, "listener"), (notified, "notified")):
            end.bind(os.fspath(work / name))
        listener.listen()
        number = listener.fileno()
        with Backend(work, *words(work, f"--fd={number}"), keep=[number], NOTIFY_SOCKET=os.fspath(work / "notified")) as backend:
            notified.settimeout(DEADLINE_SECONDS)
            assert b"READY=1\nSTATUS=waiting for a connection to" in notified.recv(4096)
            assert backend.terminated() == 0


def test_what_systemd_passes_is_descriptor_3(work: Path) -> None:
    guest = FakeGuest()
    with FakeVm(guest) as vm:
        number = vm.ours.fileno()
        moved = f"exec 3<&{number}; export LISTEN_PID=$$; "
        with Backend(work, *words(work, "--no-ledger"), keep=[number], before=moved, LISTEN_FDS="1") as backend:
            backend.until(lambda: hostnames(guest) == ["web1"], "the document")
            assert backend.terminated() == 0


def test_only_what_was_passed_to_this_process_is_taken_and_only_once() -> None:
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "vm1", "HOME": "/"}
    assert activated(environment) == 3
    assert environment == {"HOME": "/"}
    assert activated(environment) is None
    assert activated({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) is None
    with pytest.raises(HostError, match="systemd passed 2 sockets"):
        activated({"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())})


def test_of_two_sockets_none_is_served() -> None:
    for path, number, passed in ((Path("/x"), 4, None), (Path("/x"), None, 3), (None, 4, 3)):
        with pytest.raises(HostError, match="one socket"):
            chosen(path, number, passed)


@pytest.mark.parametrize("kind", [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)])
def test_a_socket_of_another_kind_is_refused_and_closed(kind: tuple[int, int]) -> None:
    number = socket.socket(*kind).detach()
    with pytest.raises(HostError, match="not a stream socket of the Unix domain"):
        given(number)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_socket_that_is_connected_to_nobody_is_refused() -> None:
    with pytest.raises(HostError, match="not connected"):
        given(socket.socket(socket.AF_UNIX).detach())


def test_a_changed_document_is_taken_at_sighup_and_a_bad_one_is_not(work: Path) -> None:
    guest = FakeGuest()
    with FakeQemu(work / "vm1.sock", guest), Backend(work, *words(work, f"--socket-path={work / 'vm1.sock'}")) as backend:
        backend.until(lambda: hostnames(guest) == ["web1"], "the document")
        (work / "web1.yaml").write_text("instance-id: i-1\nlocal-hostname: 'web 2'\n")
        backend.process.send_signal(signal.SIGHUP)
        backend.until(lambda: "stays in force" in backend.said, "the complaint")
        (work / "web1.yaml").write_text("instance-id: i-1\nlocal-hostname: web3\n")
        backend.process.send_signal(signal.SIGHUP)
        backend.until(lambda: hostnames(guest) == ["web1", "web3"], "the changed document")


def test_a_vm_is_served_what_the_directory_has_for_it(work: Path) -> None:
    (work / "documents").mkdir(0o700)
    (work / "documents/web7.yaml").write_text("instance-id: i-7\n")
    (work / "defaults.yaml").write_text("local-hostname: of-all\n")
    guest = FakeGuest()
    with FakeQemu(work / "vm1.sock", guest):
        asked = ["web7", "--documents", str(work / "documents"), "--state", str(work / "state"), "--no-ledger"]
        with Backend(work, *asked, f"--socket-path={work / 'vm1.sock'}") as backend:
            backend.until(lambda: hostnames(guest) == ["of-all"], "the document over the defaults")


def test_closed_standard_streams_are_no_reason_to_fail_nor_to_print_into_a_channel(work: Path) -> None:
    guest = FakeGuest()
    with FakeQemu(work / "vm1.sock", guest):
        asked = words(work, "--verbose", f"--socket-path={work / 'vm1.sock'}")
        with Backend(work, *asked, before="exec <&- >&- 2>&-; ") as backend:
            backend.until(lambda: hostnames(guest) == ["web1"], "the document")
            links = [Path(f"/proc/{backend.process.pid}/fd/{number}").readlink() for number in range(3)]
            assert links == [Path("/dev/null")] * 3
            assert backend.terminated() == 0


def test_it_does_not_daemonise(work: Path) -> None:
    guest = FakeGuest()
    with FakeQemu(work / "vm1.sock", guest), Backend(work, *words(work, f"--socket-path={work / 'vm1.sock'}")) as backend:
        backend.until(lambda: hostnames(guest) == ["web1"], "the document")
        assert os.getsid(backend.process.pid) == os.getsid(0)
        assert not Path(f"/proc/{backend.process.pid}/task/{backend.process.pid}/children").read_text()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON"),
        (b'{"type": 1}', "no JSON"),
        (b'{"features": []}', "no JSON"),
        (b'{"type": "fs", "features": ["a b"]}', "no name of a type or feature"),
        (b'{"type": "\\u001b[2J"}', "no name of a type or feature"),
        (b"[" * 60000, "no JSON"),
        (b" " * 70000, "longer than 65536 bytes"),
        (b'{"type": "fs"} {"type": "fs"}', "no JSON"),
    ],
)
def test_an_answer_that_is_none_is_refused(answer: bytes, complaint: str) -> None:
    with pytest.raises(BadCapabilities, match=complaint) as refused:
        parse(answer)
    assert str(refused.value).isprintable()


def test_the_answer_of_the_real_virtiofsd_is_one() -> None:
    found = parse(b'{\n  "type": "fs"\n}\n')
    assert (found.type, found.features) == ("fs", [])
