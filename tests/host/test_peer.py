# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a stream: nobody but root, us and the VM's QEMU gets as much as a greeting."""

from __future__ import annotations

import os
import pty
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.channels.connect import connect_socket, open_pty
from host_agent.channels.endpoint import Domain
from host_agent.channels.peer import Expected, expected
from host_agent.errors import Unreachable
from pv_channel.greeting import NO_UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Nobody's here.
STRANGER = 54321
OURS = Expected(frozenset({os.geteuid()}))


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(tmp_path / "vm.sock"))
        made.listen(8)
        yield made


def path_of(listener: socket.socket) -> Path:
    return Path(listener.getsockname())


def refused(reach: Callable[[], int]) -> str:
    with pytest.raises(Unreachable) as caught:
        os.close(reach())
    assert caught.value.word == "squatted"
    assert str(caught.value).endswith("; nothing was sent to it")
    return str(caught.value)


def test_we_and_root_are_expected_at_every_vm() -> None:
    assert expected(None).uids == {0, os.geteuid()}
    assert expected(Domain(7, NO_UUID, "vm")).pid is None


def test_a_process_of_ours_is_connected_to(listener: socket.socket) -> None:
    os.close(connect_socket(path_of(listener), OURS))


def test_a_socket_of_another_user_is_not_connected_to(listener: socket.socket) -> None:
    listener.settimeout(0)
    text = refused(lambda: connect_socket(path_of(listener), Expected(frozenset({STRANGER}))))
    assert f"a file of uid {os.geteuid()}" in text
    assert "cure: chown root" in text
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_process_of_another_user_behind_a_proper_file_gets_nothing(listener: socket.socket) -> None:
    """The file is the QEMU's, and somebody else listens: seen after connecting, before anything is written."""
    who = Expected(frozenset({STRANGER}), pid=None, pid_uid=os.geteuid())
    text = refused(lambda: connect_socket(path_of(listener), who))
    assert f"process {os.getpid()} of uid {os.geteuid()} listens here" in text
    assert f"ps -fp {os.getpid()}" in text
    client, _ = listener.accept()
    with client:
        assert client.recv(1) == b""


def test_a_qemu_that_gave_up_root_is_known_by_its_pid(listener: socket.socket) -> None:
    who = Expected(frozenset({STRANGER}), os.getpid(), os.geteuid())
    os.close(connect_socket(path_of(listener), who))


def test_a_domains_qemu_is_known_with_its_user() -> None:
    found = expected(Domain(7, NO_UUID, "vm", os.getpid()))
    assert (found.pid, found.pid_uid) == (os.getpid(), os.geteuid())


def test_a_qemu_that_is_gone_is_nobody() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert expected(Domain(7, NO_UUID, "vm", pid)).pid_uid is None


def test_a_link_in_a_sockets_place_is_not_followed(listener: socket.socket, tmp_path: Path) -> None:
    link = tmp_path / "other.sock"
    link.symlink_to(path_of(listener))
    assert "a symbolic link, which QEMU never makes" in refused(lambda: connect_socket(link, OURS))


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_directory_in_which_others_can_put_sockets_is_not_used(listener: socket.socket, mode: int) -> None:
    directory = path_of(listener).parent
    directory.chmod(mode)
    text = refused(lambda: connect_socket(path_of(listener), OURS))
    assert f"everybody may write there; cure: chmod 700 {directory}" in text


def test_a_terminal_of_another_user_is_left_alone() -> None:
    controller, terminal = pty.openpty()
    path = Path(os.ttyname(terminal))
    os.close(open_pty(path, OURS))
    assert f"a terminal of uid {os.geteuid()}" in refused(lambda: open_pty(path, Expected(frozenset({STRANGER}))))
    for each in (controller, terminal):
        os.close(each)
    with pytest.raises(Unreachable) as caught:
        open_pty(path, OURS)
    assert caught.value.word == "missing"


def test_what_is_no_pty_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", Path("/dev/null")):
        with pytest.raises(Unreachable, match="not a terminal"):
            open_pty(path, OURS)
