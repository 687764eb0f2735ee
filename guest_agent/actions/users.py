# SPDX-License-Identifier: Apache-2.0
"""The item ``users``: groups, users, their homes and their sudo rules.

The account files are edited whole, not by useradd(8): so they are one transaction with everything else, a dry run can show
them, and no hash is in an argument list. A user who is no more named stays; ``absent`` removes one, but for the home. The
sudo rules of a document with ``users`` are all of ours: those of users who are not named, or without ``sudo``, go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.accounts import user as one_user
from guest_agent.accounts.edit import Accounts
from guest_agent.actions.labels import relabelled
from guest_agent.actions.plan import Plan
from guest_agent.changes.accounts import EditAccounts
from guest_agent.changes.files import missing_parents
from guest_agent.changes.home import MakeHome
from guest_agent.changes.sudoers import WriteSudoers
from guest_agent.failure import ItemError
from guest_agent.homes import Home
from pv_channel.accounts import members_by_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from pv_channel.accounts import User
    from pv_channel.document import Document

SUDO_RULES: Final = "/etc/sudoers.d/60-pv-guest-agent"
#: openSUSE keeps the distribution's file under /usr.
_SUDOERS: Final = ("/etc/sudoers", "/usr/etc/sudoers")
_INCLUDES: Final = re.compile(r'^[#@]includedir\s+"?/etc/sudoers\.d/?"?\s*$', re.MULTILINE)
_SUDO_MODE: Final = 0o440
_BASH: Final = "/bin/bash"


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the document's groups and users be; None where it says nothing of them. Raise `ItemError`, `OSError`."""
    users = [] if document.users is msgspec.UNSET else document.users
    groups = {} if document.groups is msgspec.UNSET else members_by_group(document.groups)
    if not _says(document, users, draft):
        return None
    accounts = Accounts(draft)
    for group in groups:
        if accounts.gid(group) is None:
            accounts.add_group(group)
    homes: list[Change] = []
    remarks: list[str] = []
    for user in users:
        if user.absent:
            remarks.append(_remove(accounts, user))
        else:
            made = one_user.put(accounts, user, _shell(accounts, draft), draft.system.today())
            homes += _home(accounts, draft, user, made)
            remarks.append(_remark(draft, user, made))
    for user in users:
        if not user.absent and user.group_names is not None:
            _have_groups(accounts, user, groups)
    for group, members in groups.items():
        for member in members:
            if member not in accounts.passwd:
                raise ItemError("no-user", f"group {group}: there is no user {member}; name it in the document's 'users'")
            accounts.join(member, group)
    edits = accounts.edits()
    changes = [EditAccounts(edits)] if edits else []
    detail = "; ".join([*filter(None, remarks), *(f"group {group}" for group in groups)])
    if document.users is msgspec.UNSET:
        return Plan([*changes, *homes], detail, still=tuple(draft.before.items()))
    return Plan([*changes, *homes, *_sudo(draft, users)], detail)


def _says(document: Document, users: Sequence[User], draft: Draft) -> bool:
    """Whether anything is said but the keys of users who are there, which are another item's."""
    if document.groups is not msgspec.UNSET or (document.users is not msgspec.UNSET and draft.before):
        return True
    there = {line.partition(":")[0] for line in draft.text("/etc/passwd").splitlines()}
    return any(not user.is_only_keys or user.name not in there for user in users)


def _shell(accounts: Accounts, draft: Draft) -> str:
    named = accounts.defaults.useradd.get("SHELL", "")
    return named or (_BASH if draft.system.exists(_BASH) else "/bin/sh")


def _remove(accounts: Accounts, user: User) -> str:
    row = accounts.passwd.row(user.name)
    if row is None:
        accounts.shadow.drop(user.name)
        return f"no {user.name}"
    accounts.remove(user.name)
    return f"{user.name} removed, {row[5] or 'no home'} stays"


def _home(accounts: Accounts, draft: Draft, user: User, made: one_user.Made) -> list[Change]:
    """What makes the home of a new user, or one that the document names, where it is not there. Services get none."""
    wanted = made.new or user.homedir is not msgspec.UNSET
    if not wanted or user.no_create_home or user.system or draft.system.exists(made.home):
        return []
    home = Home(str(user.name), made.uid, made.gid, made.home)
    change = MakeHome(home, accounts.defaults.home_mode, accounts.defaults.skeleton)
    return [*missing_parents(draft.system, made.home), change, *relabelled(draft, made.home)]


def _remark(draft: Draft, user: User, made: one_user.Made) -> str:
    remark = f"{user.name}: uid {made.uid}"
    if user.shell is not msgspec.UNSET and not draft.system.exists(user.shell):
        remark += f", but {user.shell} is not there"
    if user.lock_passwd is False and user.hashed_passwd is msgspec.UNSET and made.new:
        remark += ", no password that could be unlocked"
    return remark


def _have_groups(accounts: Accounts, user: User, groups: Mapping[str, Sequence[str]]) -> None:
    wanted = [*dict.fromkeys([*(user.group_names or []), *(name for name, members in groups.items() if user.name in members)])]
    for name in wanted:
        if accounts.gid(name) is None:
            raise ItemError("no-group", f"user {user.name}: there is no group {name}; name it in the document's 'groups'")
    accounts.leave_all(user.name, but=wanted)
    for name in wanted:
        accounts.join(user.name, name)


def _sudo(draft: Draft, users: Sequence[User]) -> list[Change]:
    rules = [f"{user.name} {rule.strip()}" for user in users for rule in user.sudo_rules or []]
    if not rules:
        return draft.gone([])
    sudoers = next((path for path in _SUDOERS if draft.system.exists(path)), None)
    if sudoers is None:
        raise ItemError("not-supported", "'sudo' rules need the package sudo, which is not installed")
    if not _INCLUDES.search(draft.text(sudoers)):
        raise ItemError("not-supported", f"{sudoers} does not include /etc/sudoers.d; add the line '@includedir /etc/sudoers.d'")
    draft.check(SUDO_RULES)
    content = "".join(f"{line}\n" for line in ["# Written by pv-guest-agent; the next document replaces it.", *rules])
    return [*missing_parents(draft.system, SUDO_RULES), WriteSudoers(SUDO_RULES, content.encode("ascii"), _SUDO_MODE, owned=True)]
