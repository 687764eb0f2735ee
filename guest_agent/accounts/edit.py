# SPDX-License-Identifier: Apache-2.0
"""The account files of one machine as a document changes them, in memory, by the rules of useradd(8), usermod(8), userdel(8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.accounts import defaults
from guest_agent.accounts.table import Table
from guest_agent.changes.accounts import Edit
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guest_agent.actions.draft import Draft

PASSWD: Final = "/etc/passwd"  # noqa: S105  a path
SHADOW: Final = "/etc/shadow"
GROUP: Final = "/etc/group"
GSHADOW: Final = "/etc/gshadow"
SUBUID: Final = "/etc/subuid"
SUBGID: Final = "/etc/subgid"

#: The files with the number of fields in a record of each; the first three are there on every machine with users.
_WIDTHS: Final = {PASSWD: 7, SHADOW: 9, GROUP: 4, GSHADOW: 4, SUBUID: 3, SUBGID: 3}
_NEEDED: Final = (PASSWD, SHADOW, GROUP)
_SECRET: Final = (SHADOW, GSHADOW)
#: A password that nothing matches.
LOCKED: Final = "!"


class Accounts:
    """The files as *draft* has them, and what has been done to them since."""

    def __init__(self, draft: Draft) -> None:
        self.defaults = defaults.read(draft.text)
        self._before: dict[str, bytes] = {}
        self._tables: dict[str, Table] = {}
        for path, width in _WIDTHS.items():
            stored = draft.read(path)
            if stored is None and path in _NEEDED:
                raise ItemError("not-supported", f"{path} is missing: only accounts in the files of shadow(5) are managed")
            if stored is not None:
                self._before[path] = stored.content
                self._tables[path] = Table(path, stored.content, width)
        self.passwd, self.shadow, self.group = (self._tables[path] for path in _NEEDED)
        self.gshadow = self._tables.get(GSHADOW)

    def edits(self) -> tuple[Edit, ...]:
        """The files that are not as they were."""
        return tuple(
            Edit(path, self._before[path], table.content, tuple(table.touched), path in _SECRET)
            for path, table in self._tables.items()
            if table.content != self._before[path]
        )

    def add_group(self, name: str, *, preferred: int | None = None, system: bool = False) -> str:
        """Make the group *name*; its gid, *preferred* where nobody has that."""
        used = {int(row[2]) for row in self.group.rows() if row[2].isdigit()}
        gid = preferred if preferred is not None and preferred not in used else None
        if gid is None:
            gid = _free(used, self.defaults.ids("GID", system=system), system=system, what="group ids")
        self.group.put([name, "x" if self.gshadow is not None else LOCKED, str(gid), ""])
        if self.gshadow is not None:
            self.gshadow.put([name, LOCKED, "", ""])
        return str(gid)

    def gid(self, group: str) -> str | None:
        """The gid of *group*, by name; None where there is no such group."""
        row = self.group.row(group)
        return None if row is None else row[2]

    def free_uid(self, *, system: bool) -> int:
        """The uid that useradd would give."""
        return _free(self.uids(), self.defaults.ids("UID", system=system), system=system, what="user ids")

    def uids(self) -> dict[int, str]:
        """Who has which uid."""
        return {int(row[2]): row[0] for row in reversed(list(self.passwd.rows())) if row[2].isdigit()}

    def join(self, user: str, group: str) -> None:
        """Make *user* a member of *group*."""
        for table in filter(None, (self.group, self.gshadow)):
            row = table.row(group)
            if row is not None and user not in row[3].split(","):
                table.put([*row[:3], ",".join([*filter(None, row[3].split(",")), user])])

    def leave_all(self, user: str, but: Iterable[str] = (), *, administrator: bool = False) -> None:
        """Make *user* a member of no group, *but* of these; *administrator*: nor one who may change any."""
        stay = set(but)
        for table in filter(None, (self.group, self.gshadow)):
            for row in table.rows():
                if row[0] in stay:
                    continue
                admins = row[2]
                if administrator and table is self.gshadow:
                    admins = _without(admins, user)
                table.put([row[0], row[1], admins, _without(row[3], user)])

    def add_subordinates(self, user: str) -> None:
        """Give a new user ranges of subordinate ids, where the machine has files of them (subuid(5))."""
        for path, kind in ((SUBUID, "UID"), (SUBGID, "GID")):
            table = self._tables.get(path)
            first, last, count = self.defaults.subordinate(kind)
            if table is None or count <= 0 or user in table:
                continue
            taken = sorted((int(r[1]), int(r[1]) + int(r[2])) for r in table.rows() if r[1].isdigit() and r[2].isdigit())
            for start, end in taken:
                if start >= first + count:
                    break
                first = max(first, end)
            if first + count - 1 > last:
                raise ItemError("no-free-id", f"{path} has no {count} ids left for {user}")
            table.put([user, str(first), str(count)])

    def remove(self, user: str) -> None:
        """What userdel(8) does: the user, the memberships, the own group where nobody else is in it, the subordinate ids."""
        row = self.passwd.row(user)
        for table in (self.passwd, self.shadow, self._tables.get(SUBUID), self._tables.get(SUBGID)):
            if table is not None:
                table.drop(user)
        self.leave_all(user, administrator=True)
        own = self.group.row(user) if self.defaults.own_group and row is not None else None
        if own is None or own[3] or (row is not None and own[2] != row[3]) or any(r[3] == own[2] for r in self.passwd.rows()):
            return
        self.group.drop(user)
        if self.gshadow is not None:
            self.gshadow.drop(user)


def _free(used: Iterable[int], allowed: range, *, system: bool, what: str) -> int:
    """useradd's choice: people get the one above the highest in use, services the one below the lowest, else what is free."""
    taken = {number for number in used if number in allowed}
    following = min(taken, default=allowed.stop) - 1 if system else max(taken, default=allowed.start - 1) + 1
    if following in allowed:
        return following
    free = next((number for number in (reversed(allowed) if system else allowed) if number not in taken), None)
    if free is None:
        raise ItemError("no-free-id", f"all {what} from {allowed.start} to {allowed.stop - 1} (login.defs) are in use")
    return free


def _without(members: str, user: str) -> str:
    return ",".join(member for member in members.split(",") if member != user)

