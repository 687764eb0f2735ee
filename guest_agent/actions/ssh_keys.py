# SPDX-License-Identifier: Apache-2.0
"""The item ``ssh-keys``: our block in each user's authorized_keys. A key the user has outside the block is not repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent import homes
from guest_agent.actions import block
from guest_agent.actions.plan import Plan
from guest_agent.changes.keys import WriteKeys

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from pv_channel.document import Document
    from pv_channel.ssh_key import SshKey


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes each named user have exactly these keys of ours; None where it names no user's. Raise `ItemError`, `OSError`."""
    wanted = users(document)
    if not wanted:
        return None
    changes: list[Change] = []
    for user, keys in wanted.items():
        home = homes.find(draft.system, user)
        old = homes.read(draft.system, home)
        text = b"" if old.file is None else old.file.content
        new = with_our_keys(text, keys)
        if keys or new != text:  # where nothing of ours is or shall be, modes are the user's own affair
            changes.append(WriteKeys(home, new))
    return Plan(changes, ", ".join(f"{user}: {_count(keys)}" for user, keys in wanted.items()))


def users(document: Document) -> dict[str, list[SshKey]]:
    """The keys of each user whom the document gives any, or none explicitly."""
    wanted: dict[str, list[SshKey]] = {}
    if document.ssh_authorized_keys is not msgspec.UNSET:
        wanted["root"] = list(document.ssh_authorized_keys)
    for user in [] if document.users is msgspec.UNSET else document.users:
        if user.ssh_authorized_keys is not msgspec.UNSET:
            wanted[str(user.name)] = list(user.ssh_authorized_keys)
    return wanted


def with_our_keys(text: bytes, keys: list[SshKey]) -> bytes:
    """*text* with *keys* as our block: where it stood, else at the end."""
    foreign, position = block.part(text)
    known = {word for line in foreign if not line.lstrip().startswith(b"#") for word in line.split()}
    ours: list[str] = []
    for key in keys:
        blob = key.parsed.blob.encode("ascii")
        if blob not in known:
            known.add(blob)
            ours.append(str(key))
    return block.insert(foreign, len(foreign) if position is None else position, ours)


def _count(keys: list[SshKey]) -> str:
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'}"
