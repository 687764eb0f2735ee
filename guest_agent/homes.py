# SPDX-License-Identifier: Apache-2.0
"""A user's ~/.ssh/authorized_keys, touched as that user only: what the user puts in the way misleads nobody but the user."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from guest_agent import files
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.system import System

#: What sshd(8) wants of them, and a little less than it would take.
SSH_MODE: Final = 0o700
KEYS_MODE: Final = 0o600
#: Twice a document full of keys. Users write these files, and the journal holds those of all of them.
MAX_KEYS_BYTES: Final = 2 * 1024 * 1024

_SSH: Final = ".ssh"
_KEYS: Final = "authorized_keys"
_ID: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_HOME: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/\0]{1,255})+", re.ASCII)


class Home(msgspec.Struct, frozen=True):
    """A user's record in passwd(5), as far as it matters here."""

    user: str
    uid: int
    gid: int
    path: str


class Keys(NamedTuple):
    """What a home has: the mode of ~/.ssh (None: there is none), and the file of keys."""

    directory_mode: int | None
    file: files.Stored | None


def keys_path(home: Home) -> str:
    """The user's authorized_keys."""
    return f"{home.path}/{_SSH}/{_KEYS}"


class Texts(Protocol):
    """What reads a machine's files: the machine itself, or a draft that knows what is about to stand in them."""

    def text(self, path: str, /) -> str:
        """The file *path*, empty where there is none."""


def find(texts: Texts, user: str) -> Home:
    """*user*'s record in /etc/passwd; raise `ItemError`. The file itself is read: a name service is no part of an image."""
    for line in texts.text("/etc/passwd").splitlines():
        fields = line.split(":")
        if fields[0] != user:
            continue
        if len(fields) != 7 or not _ID.fullmatch(fields[2]) or not _ID.fullmatch(fields[3]):
            raise ItemError("no-user", f"the line of user {user} in /etc/passwd is damaged")
        home = fields[5].rstrip("/")
        if not _HOME.fullmatch(home):
            raise ItemError("no-home", f"user {user} has no home of its own in /etc/passwd")
        return Home(user, int(fields[2]), int(fields[3]), home)
    raise ItemError("no-user", f"/etc/passwd has no user {user}")


@contextmanager
def acting_as(home: Home) -> Iterator[None]:
    """Have the rights of *home*'s user and no others. Who is not root has the own ones, and stays so.

    Only the effective ids change, so that the way back is always open (credentials(7)); the user cannot signal or trace
    us meanwhile, because our real and saved ids stay root's (kill(2), ptrace(2)).
    """
    if os.geteuid() != 0 or home.uid == 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups([home.gid])
        os.setegid(home.gid)
        os.seteuid(home.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


@contextmanager
def _open(system: System, home: Home) -> Iterator[int]:
    """The open home, as its user, where it is a safe one; raise `ItemError`."""
    with acting_as(home):
        try:
            opening = system.directory(home.path)
            with opening as opened:
                _check_owner(opened, home, home.path)
                yield opened
        except FileNotFoundError:
            raise ItemError("no-home", f"{home.path}, the home of {home.user}, does not exist") from None


def _check_owner(opened: int, home: Home, path: str) -> None:
    status = os.fstat(opened)
    if status.st_uid != os.geteuid():
        raise ItemError("unsafe-home", f"{path} belongs to uid {status.st_uid}, not to {home.user}; chown it")
    if status.st_mode & stat.S_IWOTH:
        raise ItemError("unsafe-home", f"{path} can be written by everybody; chmod o-w it")


def _open_ssh(parent: int, home: Home) -> int | None:
    try:
        opened = files.open_directory(parent, _SSH)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, f"{home.path}/{_SSH}") from None
    try:
        _check_owner(opened, home, f"{home.path}/{_SSH}")
    except BaseException:
        os.close(opened)
        raise
    return opened


def read(system: System, home: Home) -> Keys:
    """What *home* has; raise `ItemError` for a home that is not safe, `OSError` (ELOOP for a symbolic link)."""
    with _open(system, home) as parent:
        opened = _open_ssh(parent, home)
        if opened is None:
            return Keys(None, None)
        try:
            mode = stat.S_IMODE(os.fstat(opened).st_mode)
            return Keys(mode, files.read(opened, _KEYS, MAX_KEYS_BYTES))
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, f"{home.path}/{_SSH}/{_KEYS}") from None
        finally:
            os.close(opened)


def write(system: System, home: Home, content: bytes) -> None:
    """Make the keys of *home* be *content*, private to the user; raise as `read` does."""
    with _open(system, home) as parent:
        opened = _made_ssh(parent, home)
        try:
            old = files.read(opened, _KEYS, MAX_KEYS_BYTES)
            os.fchmod(opened, SSH_MODE)
            new = files.new_file(content, KEYS_MODE)
            files.replace(opened, _KEYS, msgspec.structs.replace(new, label=old.label if old else b""))
        finally:
            os.close(opened)


def _made_ssh(parent: int, home: Home) -> int:
    opened = _open_ssh(parent, home)
    if opened is None:
        files.make_directory(parent, _SSH, SSH_MODE)
        opened = _open_ssh(parent, home)
    if opened is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), f"{home.path}/{_SSH}")
    return opened


def restore(system: System, home: Home, old: Keys) -> None:
    """Make *home* have what it had, once more if need be; raise as `read` does."""
    if old == Keys(None, None) and not system.exists(home.path):
        return
    with _open(system, home) as parent:
        opened = _open_ssh(parent, home)
        if opened is None:
            return  # there was none, or the user removed it meanwhile, keys and all
        try:
            _restore_file(opened, old.file)
            if old.directory_mode is not None:
                os.fchmod(opened, old.directory_mode)
        finally:
            os.close(opened)
        if old.directory_mode is None:
            files.remove_directory(parent, _SSH)


def _restore_file(opened: int, old: files.Stored | None) -> None:
    with suppress(FileNotFoundError):
        files.sweep(opened, _KEYS)
    if old is None:
        files.remove(opened, _KEYS)
    elif files.read(opened, _KEYS, MAX_KEYS_BYTES) != old:
        # The user acts here, who cannot give a file away: it is the user's own from now on.
        files.replace(opened, _KEYS, msgspec.structs.replace(old, uid=os.geteuid(), gid=os.getegid()))
