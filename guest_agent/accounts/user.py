# SPDX-License-Identifier: Apache-2.0
"""One user of a document in the account files: made by useradd(8)'s rules, or changed in what the document says and no more.

``groups`` are all that the user is in besides the primary one, as usermod's ``-G`` has it. A new user without a
``hashed_passwd`` cannot log in by password; one with a hash can, unless ``lock_passwd`` says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from guest_agent.accounts import defaults
from guest_agent.accounts.edit import LOCKED
from guest_agent.accounts.table import encoded
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from guest_agent.accounts.edit import Accounts
    from pv_channel.accounts import User

#: passwd(5)'s word for a password that stands in shadow(5).
_IN_SHADOW: Final = "x"


class Made(NamedTuple):
    """Where the user's record is now: the ids, the home, and whether the user is new."""

    uid: int
    gid: int
    home: str
    new: bool


def put(accounts: Accounts, user: User, shell: str, today: int) -> Made:
    """Have *user*; a new one gets *shell* where none is named. Raise `ItemError`. Supplementary groups are not looked at."""
    row = accounts.passwd.row(user.name)
    new = row is None
    if row is None:
        row = _new(accounts, user, shell)
    elif user.uid is not msgspec.UNSET and row[2] != str(user.uid):
        raise ItemError("conflict", f"user {user.name} has uid {row[2]}, not {user.uid}; who would own the files? Say {row[2]}")
    if user.primary_group is not msgspec.UNSET:
        row[3] = accounts.gid(user.primary_group) or accounts.add_group(user.primary_group, system=user.system)
    if user.gecos is not msgspec.UNSET:
        row[4] = encoded(user.gecos)
    if user.homedir is not msgspec.UNSET:
        row[5] = str(user.homedir)
    if user.shell is not msgspec.UNSET:
        row[6] = user.shell
    if not row[2].isdigit() or not row[3].isdigit():
        raise ItemError("bad-accounts", f"the line of {user.name} in /etc/passwd has no uid or no gid; mend it")
    if user.hashed_passwd is not msgspec.UNSET:
        row[1] = _IN_SHADOW
    accounts.passwd.put(row)
    _put_shadow(accounts, user, today, new=new)
    if new and not user.system:
        accounts.add_subordinates(user.name)
    return Made(int(row[2]), int(row[3]), row[5], new)


def _new(accounts: Accounts, user: User, shell: str) -> list[str]:
    taken = accounts.uids()
    uid = accounts.free_uid(system=user.system) if user.uid is msgspec.UNSET else user.uid
    if uid in taken:
        raise ItemError("conflict", f"uid {uid} is {taken[uid]}'s, so {user.name} cannot have it")
    gid = "" if user.primary_group is not msgspec.UNSET else accounts.gid(user.name)
    if gid is None and accounts.defaults.own_group:
        gid = accounts.add_group(user.name, preferred=uid, system=user.system)
    if gid is None:
        named = accounts.defaults.group
        gid = named if named.isdigit() else accounts.gid(named)
    if gid is None:
        raise ItemError("no-group", f"user {user.name}: {defaults.USERADD} names a group that is not there; name one")
    return [str(user.name), _IN_SHADOW, str(uid), gid, "", f"{accounts.defaults.home_base}/{user.name}", shell]


def _put_shadow(accounts: Accounts, user: User, today: int, *, new: bool) -> None:
    row = accounts.shadow.row(user.name)
    old = None if row is None else list(row)
    if row is None:
        if not new and all(value is msgspec.UNSET for value in (user.hashed_passwd, user.lock_passwd, user.expiredate)):
            return
        row = [str(user.name), LOCKED, "", *([""] * 4 if user.system else accounts.defaults.aging()), "", ""]
    row[1] = _password(user, row[1])
    if user.expiredate is not msgspec.UNSET:
        row[7] = str(user.expiredate.days)
    # 1970-01-01, where no clock was ever set, would say that the password must be changed at once (shadow(5)).
    if old is None or row[1].lstrip(LOCKED) != old[1].lstrip(LOCKED):
        row[2] = str(today) if today else ""
    accounts.shadow.put(row)


def _password(user: User, old: str) -> str:
    """The field of shadow(5): a lock is a ``!`` in front of it, which usermod's -L and -U put there and take away."""
    new = old if user.hashed_passwd is msgspec.UNSET else str(user.hashed_passwd)
    bare = new.lstrip(LOCKED)
    if user.lock_passwd is True:
        return new if new.startswith(LOCKED) else LOCKED + new
    if user.lock_passwd is False and bare:
        return bare
    return old if user.lock_passwd is msgspec.UNSET and bare == old.lstrip(LOCKED) else new
