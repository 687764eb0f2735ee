# SPDX-License-Identifier: Apache-2.0
"""Files change all at once or not at all, and nothing is followed that somebody else put in the way."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from guest_agent import files
from guest_agent.files import Stored
from guest_agent.system import System

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path) -> Iterator[int]:
    with files.directory(str(tmp_path)) as opened:
        yield opened


def ours(content: bytes, mode: int = 0o640) -> Stored:
    return Stored(content, mode, os.geteuid(), os.getegid())


def test_a_replaced_file_has_the_new_content_mode_and_owner_and_leaves_nothing_beside_it(here: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    files.replace(here, "a", ours(b"new"))
    assert files.read(here, "a") == ours(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_reader_who_has_the_old_file_open_keeps_it_whole(here: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with (tmp_path / "a").open("rb") as reader:
        files.replace(here, "a", ours(b"new"))
        assert reader.read() == b"old"


def test_what_a_killed_replace_left_is_no_obstacle(here: int, tmp_path: Path) -> None:
    (tmp_path / files.TEMPORARY.format("a")).write_bytes(b"half")
    files.replace(here, "a", ours(b"new"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_planted_under_the_temporary_name_is_not_written_through(here: int, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / files.TEMPORARY.format("a")).symlink_to("victim")
    files.replace(here, "a", ours(b"new"))
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert not (tmp_path / "a").is_symlink()


def test_a_failing_write_leaves_the_old_file_and_nothing_beside_it(
    here: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            files.replace(here, "a", ours(b"new"))
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_short_writes_are_continued(here: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    files.replace(here, "a", ours(b"0123456789"))
    assert files.read(here, "a") == ours(b"0123456789")


@pytest.mark.parametrize(
    ("kind", "code"), [("link", errno.ELOOP), ("fifo", errno.EISDIR), ("directory", errno.EISDIR), ("socket", errno.EISDIR)]
)
def test_only_a_regular_file_is_read(here: int, tmp_path: Path, kind: str, code: int) -> None:
    path = tmp_path / "a"
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    with pytest.raises(OSError) as caught:  # noqa: PT011  the number is what is looked at
        files.read(here, "a")
    assert caught.value.errno == code


def test_a_file_above_the_limit_is_not_read(here: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1001))
    with pytest.raises(OSError, match="more than 1000 bytes"):
        files.read(here, "a", 1000)
    assert files.read(here, "a", 1001) is not None


def test_a_missing_file_is_none_and_removing_it_is_fine(here: int) -> None:
    assert files.read(here, "a") is None
    files.remove(here, "a")
    files.remove_directory(here, "a")


def test_a_directory_that_was_used_meanwhile_stays(here: int, tmp_path: Path) -> None:
    files.make_directory(here, "d", 0o700)
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o700
    (tmp_path / "d" / "somebody's").touch()
    files.remove_directory(here, "d")
    assert (tmp_path / "d").is_dir()


def test_below_a_root_no_link_leads_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("x")
    (tmp_path / "root" / "etc").symlink_to(tmp_path / "outside")
    system = System(tmp_path / "root")
    with pytest.raises(OSError, match="symbolic links"):
        system.read("/etc/f")


def test_a_wait_on_a_machine_that_is_not_live_does_not_wait(tmp_path: Path) -> None:
    slept: list[float] = []
    assert not System(tmp_path, sleep=slept.append).wait_for(lambda: False, 5)
    assert slept == []
