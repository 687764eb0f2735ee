# SPDX-License-Identifier: Apache-2.0
"""What a disk may hold after a power cut: a model of a file system that keeps what was synced, and of the rest what it likes.

A file's content, owner and mode are durable when the file was synced; which names a directory has, when the directory was. Of
what was not, each file and each directory loses its part independently of the others; a directory loses its last changes
first, as every file system with a journal does it, and a file that was never synced may be empty or half of itself. A rename
within a directory is one change.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.guest.machine import held

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

#: What is recorded: strace's own words.
CALLS = ("openat", "write", "fsync", "fchmod", "fchown", "renameat", "linkat", "unlinkat", "symlinkat", "mkdirat",
         "setresuid", "setresgid")  # fmt: skip
_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (\d+)")
_PART = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(?:\.\.\.)?|(?:AT_FDCWD|-?\d+)?<([^>]*)>|([^,"<\s][^,"<]*)')


class Call(NamedTuple):
    """One call that succeeded: its kind, its arguments (paths as they are, contents as bytes in latin-1), and its result."""

    kind: str
    arguments: list[str]
    result: int

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.kind}({', '.join(argument[-60:] for argument in self.arguments if len(argument) < 400)})"


def parse(trace: str) -> Iterator[Call]:
    """The calls in strace's output (-y -xx)."""
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match:
            arguments = [_text(next(part for part in parts if part is not None)) for parts in _parts(match[2])]
            yield Call(match[1], arguments, int(match[3]))


def _parts(text: str) -> Iterator[tuple[str | None, ...]]:
    for match in _PART.finditer(text):
        yield match.groups()


def _text(hexadecimal: str) -> str:
    if "\\x" not in hexadecimal:
        return hexadecimal.strip()
    return bytes.fromhex(hexadecimal.replace("\\x", "")).decode("latin-1")


class State(NamedTuple):
    """What a file is."""

    mode: int
    uid: int
    gid: int
    content: bytes = b""


class Inode:
    """A file, link or directory: as it is, as the disk has it for certain (None: not at all), and its names where it has any."""

    def __init__(self, now: State, *, synced: bool) -> None:
        self.now = now
        self.synced = now if synced else None
        #: What the disk has for certain, and what has been changed since, in order: names, and what they came to mean.
        self.names: dict[str, Inode] = {}
        self.changes: list[dict[str, Inode | None]] = []

    @property
    def is_directory(self) -> bool:
        """Whether it has names."""
        return stat.S_ISDIR(self.now.mode)

    def look(self, count: int | None = None) -> dict[str, Inode]:
        """The names after the first *count* changes (None: all)."""
        names = dict(self.names)
        for change in self.changes[:count]:
            for name, inode in change.items():
                names.pop(name, None)
                if inode is not None:
                    names[name] = inode
        return names


class Disk:
    """A file system on which everything was synced, at first."""

    def __init__(self, top: Path) -> None:
        self._top = str(top)
        self._seen: dict[int, Inode] = {}
        self.root = self._read(top)
        self.euid, self.egid = 0, 0

    def _read(self, path: Path) -> Inode:
        status = path.lstat()
        if status.st_ino in self._seen:
            return self._seen[status.st_ino]
        inode = Inode(State(status.st_mode, status.st_uid, status.st_gid, held(path)), synced=True)
        self._seen[status.st_ino] = inode
        if inode.is_directory:
            inode.names = {child.name: self._read(child) for child in path.iterdir()}
        return inode

    def _find(self, path: str) -> Inode | None:
        """The inode at the absolute *path*; None where that is not on this disk, or nothing is there."""
        if path != self._top and not path.startswith(f"{self._top}/"):
            return None
        inode: Inode | None = self.root
        for name in path[len(self._top) :].split("/"):
            if name:
                inode = None if inode is None else inode.look().get(name)
        return inode

    def do(self, call: Call) -> bool:
        """Follow *call*; whether it means anything here."""
        follow = getattr(self, f"_{call.kind}")
        return bool(follow(*call.arguments))

    def _setresuid(self, _real: str, effective: str, _saved: str) -> bool:
        self.euid = self.euid if effective == "-1" else int(effective)
        return True

    def _setresgid(self, _real: str, effective: str, _saved: str) -> bool:
        self.egid = self.egid if effective == "-1" else int(effective)
        return True

    def _openat(self, parent: str, name: str, flags: str, *mode: str) -> bool:
        directory = self._find(parent)
        if "O_CREAT" not in flags or directory is None or name.startswith("/") or name in directory.look():
            return False
        return self._make(directory, name, stat.S_IFREG | int(mode[0], 8) & ~0o022)

    def _make(self, directory: Inode, name: str, mode: int, content: bytes = b"") -> bool:
        directory.changes.append({name: Inode(State(mode, self.euid, self.egid, content), synced=False)})
        return True

    def _write(self, path: str, data: str, *_: str) -> bool:
        return self._change(path, lambda now: now._replace(content=now.content + data.encode("latin-1")))

    def _fchmod(self, path: str, mode: str) -> bool:
        return self._change(path, lambda now: now._replace(mode=stat.S_IFMT(now.mode) | int(mode, 8)))

    def _fchown(self, path: str, uid: str, gid: str) -> bool:
        return self._change(path, lambda now: now._replace(uid=int(uid), gid=int(gid)))

    def _change(self, path: str, change: object) -> bool:
        inode = self._find(path)
        if inode is None or not callable(change):
            return False
        inode.now = change(inode.now)
        return True

    def _fsync(self, path: str) -> bool:
        inode = self._find(path)
        if inode is None:
            return False
        inode.synced = inode.now
        inode.names, inode.changes = inode.look(), []
        return True

    def _mkdirat(self, parent: str, name: str, mode: str) -> bool:
        directory = self._find(parent)
        return directory is not None and self._make(directory, name, stat.S_IFDIR | int(mode, 8) & ~0o022)

    def _symlinkat(self, target: str, parent: str, name: str) -> bool:
        directory = self._find(parent)
        if directory is None:
            return False
        self._make(directory, name, stat.S_IFLNK | 0o777, target.encode("latin-1"))
        link = directory.look()[name]
        link.synced = link.now  # where a link leads is in the inode that its name comes with
        return True

    def _unlinkat(self, parent: str, name: str, _flags: str) -> bool:
        directory = self._find(parent)
        if directory is None:
            return False
        directory.changes.append({name: None})
        return True

    def _linkat(self, parent: str, name: str, other: str, new: str, _flags: str) -> bool:
        directory, target = self._find(parent), self._find(other)
        if directory is None or target is None:
            return False
        target.changes.append({new: directory.look()[name]})
        return True

    def _renameat(self, parent: str, name: str, other: str, new: str) -> bool:
        directory = self._find(parent)
        if directory is None:
            return False
        if parent != other:
            raise NotImplementedError("a rename from one directory into another would be two changes, or one: it depends")
        names = directory.look()
        if names[name] is not names.get(new):  # rename(2) does nothing where both are names of one file
            directory.changes.append({name: None, new: names[name]})
        return True


class Loss:
    """What a power cut makes of each inode: a choice for each that is not synced whole."""

    def __init__(self, disk: Disk) -> None:
        self.options: dict[Inode, list[object]] = {}
        todo = [disk.root]
        seen: set[Inode] = set()
        while todo:
            inode = todo.pop()
            if inode in seen:
                continue
            seen.add(inode)
            if inode.changes:
                self.options[inode] = list(range(len(inode.changes) + 1))
            elif inode.synced != inode.now and not inode.is_directory:
                self.options[inode] = _contents(inode)
            if inode.is_directory:
                for count in range(len(inode.changes) + 1):
                    todo += inode.look(count).values()

    def choices(self, source: random.Random, more: int) -> Iterator[dict[Inode, object]]:
        """Everything is lost; everything is kept; each one alone is lost, or kept, or something between; and *more* by chance."""
        lost = {inode: options[0] for inode, options in self.options.items()}
        kept = {inode: options[-1] for inode, options in self.options.items()}
        yield lost
        yield kept
        for inode, options in self.options.items():
            for option in options:
                yield {**kept, inode: option}
                yield {**lost, inode: option}
        for _ in range(more if len(self.options) > 1 else 0):
            yield {inode: source.choice(options) for inode, options in self.options.items()}


def _contents(inode: Inode) -> list[object]:
    if inode.synced is None:
        content = inode.now.content
        return [inode.now._replace(content=content[:size]) for size in sorted({0, len(content) // 2, len(content)})]
    return [inode.synced, inode.now]


Key = tuple[tuple[str, State, int], ...]


def remains(disk: Disk, choice: dict[Inode, object]) -> Key:
    """The disk after the cut: path, state and inode of each file."""
    found: list[tuple[str, State, int]] = []
    numbers: dict[Inode, int] = {}

    def walk(path: str, inode: Inode) -> None:
        chosen = choice.get(inode)
        state = chosen if isinstance(chosen, State) else inode.now
        found.append((path, state, numbers.setdefault(inode, len(numbers))))
        if inode.is_directory:
            names = inode.look(chosen if isinstance(chosen, int) else None)
            for name in sorted(names):
                walk(f"{path}/{name}", names[name])

    walk("", disk.root)
    return tuple(found)


def materialise(key: Key, top: Path) -> None:
    """Make *top* be the disk that is left."""
    paths: dict[int, str] = {}
    for name, state, number in key:
        path = f"{top}{name}"
        if number in paths:
            os.link(paths[number], path, follow_symlinks=False)
            continue
        paths[number] = path
        if stat.S_ISDIR(state.mode):
            Path(path).mkdir()
        elif stat.S_ISLNK(state.mode):
            Path(path).symlink_to(os.fsdecode(state.content))
            continue
        else:
            Path(path).write_bytes(state.content)
        if (state.uid, state.gid) != (0, 0):
            os.chown(path, state.uid, state.gid)
        Path(path).chmod(stat.S_IMODE(state.mode))
