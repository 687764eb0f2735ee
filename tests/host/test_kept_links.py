# SPDX-License-Identifier: Apache-2.0
"""Second links to sockets: the path of a QEMU that lives comes back, and a dead one's does not."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from host_agent.channels import kept_links
from host_agent.channels.peer import expected
from host_agent.channels.sockets import NOT_THERE, look, made
from host_agent.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHO = expected(None)


class Directory:
    """A directory of sockets, and the QEMUs that made them."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path, self.vm = path, path / "vm.sock"
        self._stack = stack

    def start(self) -> socket.socket:
        """A QEMU: it removes whatever is at its path, and listens there."""
        self.vm.unlink(missing_ok=True)
        end = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        end.bind(os.fspath(self.vm))
        end.listen(8)
        end.settimeout(5)
        return end

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())

    def connect(self, expected_of: socket.socket) -> bool:
        """Whether the path was put back, on the way to a stream that leads to that QEMU."""
        descriptor, put_back = kept_links.connect(self.vm, WHO)
        expected_of.accept()[0].close()
        os.close(descriptor)
        return put_back


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with ExitStack() as stack:
        yield Directory(tmp_path, stack)


def test_a_socket_that_another_qemu_removed_is_put_back(directory: Directory) -> None:
    """Both QEMUs of a migration have had the path; the dying one removes its successor's."""
    directory.start()
    kept_links.keep(directory.vm)
    new = directory.start()
    kept_links.keep(directory.vm)
    before = made(directory.vm)
    directory.vm.unlink()
    assert directory.connect(new)
    assert made(directory.vm) == before


def test_when_a_migration_fails_the_old_one_is_found_again(directory: Directory) -> None:
    old = directory.start()
    kept_links.keep(directory.vm)
    new = directory.start()
    kept_links.keep(directory.vm)
    new.close()
    directory.vm.unlink()
    assert directory.connect(old)
    assert directory.names() == [".vm.sock.kept-before", "vm.sock"]


def test_a_vm_that_is_off_leaves_no_link(directory: Directory) -> None:
    qemu = directory.start()
    kept_links.keep(directory.vm)
    qemu.close()
    directory.vm.unlink()
    with pytest.raises(Unreachable) as caught:
        kept_links.connect(directory.vm, WHO)
    assert caught.value.word == "missing"
    assert directory.names() == []


def test_a_socket_that_was_made_anew_meanwhile_is_the_one(directory: Directory) -> None:
    old = directory.start()
    kept_links.keep(directory.vm)
    new = directory.start()
    assert not directory.connect(new)
    client, _ = old.accept()
    with client:
        assert client.recv(1) == b""  # connected by the kept link, and left again


def test_keeping_twice_keeps_one(directory: Directory) -> None:
    directory.start()
    before = made(directory.vm)
    for _ in range(3):
        kept_links.keep(directory.vm)
    assert directory.names() == [".vm.sock.kept", "vm.sock"]
    assert made(directory.vm) == before, "a second link made it look like another socket"


def test_a_directory_that_is_not_ours_does_without(directory: Directory) -> None:
    kept_links.keep(directory.path / "nowhere" / "vm.sock")
    (directory.path / "file").write_text("")
    kept_links.keep(directory.path / "file")
    assert directory.names() == ["file"]


def test_links_are_not_taken_for_vms(directory: Directory) -> None:
    directory.start()
    kept_links.keep(directory.vm)
    assert list(look(directory.path)) == ["vm"]
    assert look(directory.path)["vm"].made == made(directory.vm)
    directory.vm.unlink()
    assert look(directory.path)["vm"].path == directory.vm
    assert look(directory.path)["vm"].made == NOT_THERE


def test_at_the_start_only_links_that_may_be_needed_stay(directory: Directory) -> None:
    directory.start()
    kept_links.keep(directory.vm)
    other = directory.path / "other"
    os.link(directory.vm, other)
    kept_links.keep(other)
    other.unlink()
    (directory.path / ".hidden").write_text("")
    kept_links.clean(directory.path)
    assert directory.names() == [".hidden", ".other.kept", "vm.sock"]
    kept_links.clean(directory.path / "nowhere")


def test_a_path_is_put_back_with_the_very_socket_of_a_stream_or_not_at_all(directory: Directory) -> None:
    directory.start()
    kept_links.keep(directory.vm)
    this = made(directory.vm)
    assert not kept_links.put_back(directory.vm, this)  # it is there
    directory.vm.unlink()
    assert not kept_links.put_back(directory.vm, this + 1)
    assert kept_links.put_back(directory.vm, this)
    kept_links.forget(directory.vm)
    assert directory.names() == ["vm.sock"]


@pytest.mark.parametrize("name", [".kept", "vm.sock.kept", ".vm", "vm", "..kept-", ""])
def test_what_is_no_kept_link_is_not_taken_for_one(name: str) -> None:
    assert kept_links.name_of(name) is None
