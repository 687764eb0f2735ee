# SPDX-License-Identifier: Apache-2.0
"""The item ``ssh-keys``: our block in each user's authorized_keys. A key the user has outside the block is not repeated.

A user whose ``ssh_authorized_keys`` are not said is left alone, one with an empty list has none of ours. A user who had
some and whom a document with ``users`` names no more, or as absent, loses them: without that, a dropped line would leave
a way in. Root is such a user only where ``users`` names root; the keys at the top go by an empty list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent import homes
from guest_agent.accounts import defaults
from guest_agent.actions import block
from guest_agent.actions.labels import relabelled
from guest_agent.actions.plan import Plan
from guest_agent.changes.keys import WriteKeys
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.homes import Home
    from pv_channel.document import Document
    from pv_channel.ssh_key import SshKey


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes each named user have exactly these keys of ours; None where it names no user's. Raise `ItemError`, `OSError`."""
    wanted = users(document)
    found = {user: homes.find(draft, user) for user in wanted}
    left = _left(document, draft, {homes.keys_path(home) for home in found.values()})
    if not wanted and not left:
        return None
    changes: list[Change] = []
    for user, keys in wanted.items():
        made = found[user].path in draft.new_homes
        text = _present(draft, found[user], made=made)
        new = with_our_keys(text, keys)
        if keys or new != text:  # where nothing of ours is or shall be, modes are the user's own affair
            changes.append(WriteKeys(found[user], new, owned=bool(keys), made=made))
            changes += relabelled(draft, f"{found[user].path}/.ssh")
    for home in left.values():
        text = _present(draft, home, made=False)
        if (new := with_our_keys(text, [])) != text:
            changes.append(WriteKeys(home, new, owned=False))
    details = [f"{user}: {_count(keys)}" for user, keys in wanted.items()]
    details += [f"{home.user}: none any more" for home in left.values() if home.user not in wanted]
    still = tuple((path, user) for path, user in draft.before.items() if path not in left and user not in wanted)
    return Plan(changes, ", ".join(details), still=still)


def _left(document: Document, draft: Draft, wanted_paths: set[str]) -> dict[str, Home]:
    """The files with a block of ours that the document wants no more: of users that it drops, and of homes that were left."""
    if document.users is msgspec.UNSET:
        return {}
    listed = {str(user.name) for user in document.users if not user.absent}
    moved = set(users(document))
    left = {}
    for path, user in draft.before.items():
        dropped = user not in listed and user != "root"
        if path in wanted_paths or not (dropped or user in moved):
            continue
        try:
            home = msgspec.structs.replace(homes.find(draft.system, user), path=path.removesuffix("/.ssh/authorized_keys"))
        except ItemError:  # the user has gone, whoever removed it; nobody is left to act as
            continue
        if draft.system.exists(home.path):
            left[path] = home
    return left


def _present(draft: Draft, home: Home, *, made: bool) -> bytes:
    if made:
        skeleton = draft.read(f"{defaults.read(draft.text).skeleton}/.ssh/authorized_keys")
        return b"" if skeleton is None else skeleton.content
    file = homes.read(draft.system, home).file
    return b"" if file is None else file.content


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
