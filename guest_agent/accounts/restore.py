# SPDX-License-Identifier: Apache-2.0
"""Take our part out of the account files again, and leave what others have changed in them since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent import files
from guest_agent.accounts.lock import locked
from guest_agent.accounts.table import lines_of, with_lines_of
from guest_agent.system import split
from pv_channel.digest import sha256

if TYPE_CHECKING:
    from guest_agent.system import System


class Edited(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that we edit: the digest of what we write, and whose lines we change. The old file is kept beside it."""

    path: str
    digest: str
    names: list[str]


def digest_of(content: bytes) -> str:
    """By what a file is known to be just as we wrote it."""
    return sha256(content).hex()


def restore(system: System, edits: list[Edited]) -> None:
    """Give each file back what it was; raise `OSError`. Where others have changed it too, only our lines go back."""
    standing = [edit for edit in edits if _stands(system, edit)]
    if standing:  # else nothing is to be written, whoever holds the lock
        with locked(system):
            for edit in reversed(edits):
                _restore_one(system, edit)


def _stands(system: System, edit: Edited) -> bool:
    """Whether anything of our edit may be in the file. What a killed edit left beside it goes at once."""
    parent, name = split(edit.path)
    with system.directory(parent) as opened:
        files.sweep(opened, name)
        old, now = files.read(opened, files.KEPT.format(name)), files.read(opened, name)
    return old is not None and (now is None or lines_of(now.content, edit.names) != lines_of(old.content, edit.names))


def _restore_one(system: System, edit: Edited) -> None:
    parent, name = split(edit.path)
    with system.directory(parent) as opened:
        old, now = files.read(opened, files.KEPT.format(name)), files.read(opened, name)
        if old is None or now == old:
            return  # this one is as it was
        if now is None or digest_of(now.content) == edit.digest:
            files.put_back(opened, name)
            return
        merged = with_lines_of(now.content, old.content, edit.names)
        if merged != now.content:
            files.replace(opened, name, msgspec.structs.replace(now, content=merged))
