# SPDX-License-Identifier: Apache-2.0
"""The item ``write-files``: whole files, or none where there was one; what stood there before comes back when the entry goes.

An original is kept in a directory that only root enters, with its own owner and mode. No symbolic link is followed that
somebody else than root could have made, and none where the file itself is to be.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.actions.draft import digest_of
from guest_agent.actions.plan import Plan
from guest_agent.changes.files import DIRECTORY_MODE, MakeDirectory, MakeLink, RemoveFile, WriteFile, missing_parents
from guest_agent.changes.running import RunCommand
from guest_agent.failure import ItemError
from guest_agent.state import DIRECTORY
from guest_agent.system import split
from pv_channel.digest import sha256

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.files import Stored
    from pv_channel.document import Document
    from pv_channel.machine import FileToWrite, Owner

ORIGINALS: Final = f"{DIRECTORY}/originals"
#: What the record of a path says where there is no file because the document says so.
ABSENT: Final = digest_of(b"absent")
#: A name in a directory has 255 bytes; half of a digest and a hyphen stand before it.
_NAME: Final = 200


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes exactly these files be as the document says; None where it says nothing of any. Raise `ItemError`, `OSError`."""
    if document.write_files is msgspec.UNSET:
        return None
    changes: list[Change] = []
    absent: list[tuple[str, str]] = []
    wanted = {str(file.path) for file in document.write_files}
    for path in sorted(set(draft.before) - wanted):
        changes += _give_back(draft, path)
    for file in document.write_files:
        if file.path not in draft.before:
            changes += _keep_original(draft, str(file.path))
        draft.check(file.path)
        if file.absent:
            absent.append((str(file.path), ABSENT))
            changes.append(RemoveFile(str(file.path), secret=True))
        else:
            changes += _write(draft, file)
    if changes and not draft.system.exists(ORIGINALS):
        changes = [MakeDirectory(ORIGINALS, 0o700), *changes]
    if document.write_files and draft.system.exists("/usr/sbin/restorecon"):
        paths = [str(file.path) for file in document.write_files if not file.absent]
        changes.append(RunCommand(["restorecon", *paths], [], while_exists="/sys/fs/selinux/enforce"))
    return Plan(changes, _summary(document.write_files), still=tuple(absent))


def _summary(files: list[FileToWrite]) -> str:
    written = sum(not file.absent for file in files)
    removed = len(files) - written
    parts = [f"{written} file{'' if written == 1 else 's'}"] * bool(written) + [f"{removed} absent"] * bool(removed)
    return ", ".join(parts) or "none"


def original_of(path: str) -> str:
    """Where the file is kept that stood at *path*; its name says which for people."""
    return f"{ORIGINALS}/{sha256(path.encode('ascii')).hex()[:32]}-{split(path)[1][:_NAME]}"


def _keep_original(draft: Draft, path: str) -> list[Change]:
    """What keeps the file or link that stands at *path*; one that is kept already is the older truth."""
    kept = original_of(path)
    if draft.system.exists(kept):
        return []
    link = draft.system.link(path)
    if link:
        return [MakeLink(kept, link)]
    old = draft.read(path)
    return [] if old is None else [_exactly(kept, old)]


def _give_back(draft: Draft, path: str) -> list[Change]:
    """What makes *path* be again what it was before it was ours: a file, a link, or nothing."""
    kept = original_of(path)
    if draft.before[path] == ABSENT and draft.system.exists(path):
        return [RemoveFile(kept, secret=True)]  # somebody has made a new one, and nobody asks for its absence any more
    draft.check(path)
    link = draft.system.link(kept)
    if link:
        return [MakeLink(path, link), RemoveFile(kept)]
    original = draft.system.read(kept)
    if original is None:
        return [RemoveFile(path, secret=True)]
    return [*missing_parents(draft.system, path), _exactly(path, original), RemoveFile(kept, secret=True)]


def _exactly(path: str, file: Stored) -> WriteFile:
    return WriteFile(path, file.content, file.mode, file.uid, file.gid, secret=not file.mode & stat.S_IROTH)


def _write(draft: Draft, file: FileToWrite) -> list[Change]:
    path = str(file.path)
    if draft.system.link(path):
        raise ItemError("symlink", f"{path}: a symbolic link stands there, which is not followed; name what it leads to")
    uid, gid = _ids(draft, file.owner)
    mode = file.permissions.mode
    changes = _parents(draft, path, uid, gid)
    return [*changes, WriteFile(path, file.data(), mode, uid, gid, owned=True, secret=file.is_secret)]


def _parents(draft: Draft, path: str, uid: int, gid: int) -> list[Change]:
    """The directories that are missing: root's, but below a directory of the file's owner the owner's."""
    missing = missing_parents(draft.system, path)
    if not missing or _owner_above(draft, path) != uid:
        return missing
    return [MakeDirectory(change.path, DIRECTORY_MODE, uid, gid) for change in missing if isinstance(change, MakeDirectory)]


def _owner_above(draft: Draft, path: str) -> int:
    """Whose the nearest directory is that will be there: one that is, or a home that is about to be made."""
    above = split(path)[0]
    while above != "/":
        if above in draft.new_homes:
            homes = [line.split(":") for line in draft.text("/etc/passwd").splitlines()]
            return next((int(home[2]) for home in homes if len(home) == 7 and home[5] == above and home[2].isdecimal()), 0)
        if draft.system.exists(above):
            return os.stat(draft.system.file(above)).st_uid  # noqa: PTH116  pathlib is 4 ms that the start does without
        above = split(above)[0]
    return 0


def _ids(draft: Draft, owner: Owner) -> tuple[int, int]:
    """User and group in numbers, by the account files as this document will have made them; raise `ItemError`."""
    user = _fields(draft.text("/etc/passwd"), owner.user)
    if user is None or len(user) < 4 or not (user[2] + user[3]).isdecimal():
        raise ItemError("no-user", f"/etc/passwd has no user {owner.user}, who shall own a file")
    if not owner.group:
        return int(user[2]), int(user[3])
    group = _fields(draft.text("/etc/group"), owner.group)
    if group is None or len(group) < 3 or not group[2].isdecimal():
        raise ItemError("no-group", f"/etc/group has no group {owner.group}, whose a file shall be")
    return int(user[2]), int(group[2])


def _fields(text: str, name: str) -> list[str] | None:
    """The fields of *name*'s line in a file like passwd(5)."""
    return next((line.split(":") for line in text.splitlines() if line.partition(":")[0] == name), None)
