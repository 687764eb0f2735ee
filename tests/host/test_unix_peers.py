# SPDX-License-Identifier: Apache-2.0
"""Who listens and who is connected, as the kernel and /proc tell of real sockets, terminals and processes."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from host_agent.channels.ends import NOTHING, OTHER, SOCKET, TERMINAL, ends
from host_agent.channels.processes import holders, process, socket_name
from host_agent.channels.unix_peers import UnixSocket, listening, unix_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Wire:
    """Unix sockets at *path* in this process: listeners, clients, and what they have accepted."""

    def __init__(self, path: Path) -> None:
        self.path, self._stack = path, ExitStack()

    def listen(self) -> socket.socket:
        end = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        end.bind(os.fspath(self.path))
        end.listen(3)
        return end

    def connect(self) -> socket.socket:
        end = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        end.connect(os.fspath(self.path))
        return end

    def accept(self, listener: socket.socket) -> socket.socket:
        return self._stack.enter_context(listener.accept()[0])

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    made = Wire(tmp_path / "socket")
    yield made
    made.close()


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def test_a_listener_is_told_with_whom_it_serves_and_who_waits(wire: Wire) -> None:
    listener = wire.listen()
    client, waiting = wire.connect(), wire.connect()
    wire.accept(listener)
    client.send(b"hello")
    (one,) = listening(unix_sockets())[str(wire.path)]
    assert one.socket.inode == inode(listener)
    assert one.served == (inode(client),)
    assert one.socket.queued == (inode(waiting),)
    assert one.unread == 5


def test_what_the_other_end_has_read_waits_no_more(wire: Wire) -> None:
    listener, client = wire.listen(), wire.connect()
    served = wire.accept(listener)
    client.send(b"hello")
    served.recv(100)
    assert ends([str(wire.path)])[str(wire.path)].listeners[0].unread == 0


def test_two_listeners_that_had_one_path_in_turn_are_told_apart(wire: Wire) -> None:
    old = wire.listen()
    old_client = wire.connect()
    wire.accept(old)
    wire.path.unlink()
    new = wire.listen()
    found = {one.socket.inode: one for one in listening(unix_sockets())[str(wire.path)]}
    assert found.keys() == {inode(old), inode(new)}
    assert found[inode(old)].served == (inode(old_client),)
    assert found[inode(new)].served == ()
    assert [one.here for one in ends([str(wire.path)])[str(wire.path)].listeners].count(True) == 1


def test_a_removed_socket_is_still_listened_on(wire: Wire) -> None:
    wire.listen()
    wire.path.unlink()
    found = ends([str(wire.path)])[str(wire.path)]
    assert (found.kind, found.listener) == (NOTHING, None)
    assert [one.here for one in found.listeners] == [False]


def test_a_second_link_put_back_is_the_same_socket(wire: Wire) -> None:
    wire.listen()
    kept = wire.path.with_name(".kept")
    os.link(wire.path, kept)
    wire.path.unlink()
    os.link(kept, wire.path)
    assert ends([str(wire.path)])[str(wire.path)].listener is not None


def test_the_processes_at_both_ends_are_named(wire: Wire) -> None:
    listener = wire.listen()
    wire.connect()
    wire.accept(listener)
    (one,) = ends([str(wire.path)])[str(wire.path)].listeners
    ourselves = process(os.getpid())
    assert ourselves is not None
    assert (one.processes, one.clients) == ((ourselves,), (ourselves,))


def test_a_socket_that_nobody_listens_on_has_no_listener(wire: Wire) -> None:
    wire.listen().close()
    found = ends([str(wire.path)])[str(wire.path)]
    assert (found.kind, found.listeners, found.clients) == (SOCKET, (), ())


def test_a_terminal_is_held_by_whoever_has_it_open() -> None:
    master, slave = os.openpty()
    path = os.ttyname(slave)
    try:
        found = ends([path])[path]
        assert found.kind == TERMINAL
        assert [one.pid for one in found.clients] == [os.getpid()]
    finally:
        os.close(master)
        os.close(slave)


def test_what_is_neither_or_cannot_be_a_path_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = ends([str(tmp_path / "file"), str(tmp_path / "no"), "odd\0path", ""])
    assert [found[path].kind for path in (str(tmp_path / "file"), str(tmp_path / "no"), "odd\0path")] == [OTHER, NOTHING, NOTHING]
    assert found[""].listeners == ()


def test_an_abstract_name_is_no_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(f"\0{tmp_path}")
        end.listen()
        assert str(tmp_path) not in listening(unix_sockets())


def test_a_process_that_has_ended_is_none_and_holds_nothing(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has asked after it
    try:
        assert process(pid) is None
    finally:
        os.waitpid(pid, 0)
    assert process(pid) is None
    assert holders([str(tmp_path / "nobody"), socket_name(0)]) == {str(tmp_path / "nobody"): (), "socket:[0]": ()}


def test_what_a_process_calls_itself_is_safe_to_print(tmp_path: Path) -> None:
    directory = tmp_path / "42"
    (directory / "fd").mkdir(parents=True)
    (directory / "comm").write_bytes(b"\x1b[2Jqemu\n")
    (directory / "cmdline").write_bytes(b"qemu\0-name\0a b\0")
    found = process(42, tmp_path)
    assert found is not None
    assert (found.comm, found.argv) == (r"\x1b[2Jqemu", ("qemu", "-name", "a b"))
    assert str(found) == rf"pid 42 (\x1b[2Jqemu), uid {os.getuid()}"


def test_clients_of_an_unlinked_socket_are_not_those_of_its_successor() -> None:
    old = UnixSocket(1, True, "/p", 10, 0, (), 0)
    new = UnixSocket(2, True, "/p", 20, 0, (), 0)
    accepted = UnixSocket(3, False, "/p", 10, 30, (), 7)
    found = listening([old, new, accepted])["/p"]
    assert [(one.socket.inode, one.served, one.unread) for one in found] == [(1, (30,), 7), (2, (), 0)]
