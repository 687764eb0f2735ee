# SPDX-License-Identifier: Apache-2.0
"""Users and groups, with cloud-init's names ("Users and Groups"), as typed values that cannot be wrong."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec

from pv_channel.names import GroupName, UserName
from pv_channel.ssh_key import SshKey
from pv_channel.text import printable
from pv_channel.values import Value, matching

#: More keys for one user than any team has; each may have 8 KiB.
MAX_KEYS: Final = 1024
MAX_GROUPS: Final = 256
MAX_MEMBERS: Final = 1024
#: A rule of sudoers(5) that needs more belongs into a file of its own.
MAX_SUDO_RULE: Final = 1000
MAX_SUDO_RULES: Final = 64
#: The ids that useradd(8) gives people; the kernel's own limit is higher, and 65534 is nobody.
MAX_ID: Final = 60000

Keys = Annotated[list[SshKey], msgspec.Meta(max_length=MAX_KEYS)]
Id = Annotated[int, msgspec.Meta(ge=1, le=MAX_ID)]

_SUDO: Final = re.compile(r"[ -~]*[!-~][ -~]*", re.ASCII)


class PasswordHash(Value):
    """A password as crypt(5) hashes it, by a method that still counts: yescrypt, bcrypt, scrypt, SHA-512 or SHA-256.

    What is refused is not repeated in the error: it may be a password.
    """

    __slots__ = ()
    _PATTERN: Final = re.compile(r"\$(?:y|gy|7|2[aby]|5|6)\$[A-Za-z0-9./$=,_+-]{20,250}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """A hash with its method and salt."""
        if not cls._PATTERN.fullmatch(text):
            raise ValueError("expected a hash as 'mkpasswd' prints it, that begins with $y$, $2b$, $6$ or $5$")
        return text


class AbsolutePath(Value):
    """A path from the root, without anything that a shell or a configuration file gives a meaning."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@%+=,~-]{1,255})+", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """At most 1,024 of letters, digits and ``/ . _ @ % + = , ~ -``; no ``.`` or ``..``, no slash at the end."""
        if len(text) > 1024:
            raise ValueError(f"expected a path of at most 1024 characters, got {len(text)}")
        return matching(text, cls._PATTERN, "an absolute path like /etc/motd")


class Gecos(Value):
    """A user's full name, as passwd(5) can hold it."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """At most 200 printable characters and no colon: a line of passwd(5) stays one line for every reader."""
        if len(text) > 200 or not text.isprintable() or ":" in text:
            raise ValueError(f"expected a name of at most 200 printable characters without a colon, got '{printable(text, 40)}'")
        return text


class Date(Value):
    """A day, ``2027-01-31``."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"(?:19[7-9][0-9]|2[0-9]{3})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """A day of the calendar, from 1970 on."""
        matching(text, cls._PATTERN, "a day like 2027-01-31")
        year, month, day = map(int, text.split("-"))
        if day > _days_in_month(year, month):
            raise ValueError(f"expected a day of the calendar, got '{text}'")
        return text

    @property
    def days(self) -> int:
        """Days since 1970, as shadow(5) counts."""
        year, month, day = map(int, self.split("-"))
        whole_years = sum(366 if _is_leap(y) else 365 for y in range(1970, year))
        return whole_years + sum(_days_in_month(year, m) for m in range(1, month)) + day - 1


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_in_month(year: int, month: int) -> int:
    return 28 + _is_leap(year) if month == 2 else 30 if month in (4, 6, 9, 11) else 31


#: Fields of a user that say nothing while they are false.
_FLAGS: Final = ("absent", "no_create_home", "system")


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A user of the guest, made where there is none. What is not said stays as it is, or is useradd(8)'s default.

    *absent*: there shall be no such user; the home stays. *sudo*: rules of sudoers(5), false or empty for none of ours.
    """

    name: UserName
    absent: bool = False
    uid: Id | msgspec.UnsetType = msgspec.UNSET
    gecos: Gecos | msgspec.UnsetType = msgspec.UNSET
    primary_group: GroupName | msgspec.UnsetType = msgspec.UNSET
    groups: str | Annotated[list[GroupName], msgspec.Meta(max_length=MAX_GROUPS)] | msgspec.UnsetType = msgspec.UNSET
    homedir: AbsolutePath | msgspec.UnsetType = msgspec.UNSET
    no_create_home: bool = False
    shell: AbsolutePath | msgspec.UnsetType = msgspec.UNSET
    system: bool = False
    hashed_passwd: PasswordHash | msgspec.UnsetType = msgspec.UNSET
    lock_passwd: bool | msgspec.UnsetType = msgspec.UNSET
    expiredate: Date | msgspec.UnsetType = msgspec.UNSET
    sudo: Literal[False] | str | Annotated[list[str], msgspec.Meta(max_length=MAX_SUDO_RULES)] | msgspec.UnsetType = msgspec.UNSET
    ssh_authorized_keys: Keys | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.absent:
            more = [name for name in self.__struct_fields__ if name not in ("name", "absent") and self._says(name)]
            if more:
                raise ValueError(f"'{self.name}' is 'absent', and '{more[0]}' says what it shall be")
            if self.name == "root":
                raise ValueError("'root' cannot be 'absent'")
        if self.name == "root" and self.uid is not msgspec.UNSET:
            raise ValueError("the 'uid' of root is 0")
        if isinstance(self.groups, str):
            names = self.group_names or []
            if len(names) > MAX_GROUPS:
                raise ValueError(f"'groups' has at most {MAX_GROUPS} names, this has {len(names)}")
            for name in names:
                GroupName(name)
        for rule in self.sudo_rules or []:
            _check_rule(rule)

    @property
    def group_names(self) -> list[str] | None:
        """The groups besides the primary one; None where nothing is said of them."""
        if self.groups is msgspec.UNSET:
            return None
        names = self.groups.split(",") if isinstance(self.groups, str) else self.groups
        return [name.strip() for name in names if name.strip()]

    @property
    def sudo_rules(self) -> list[str] | None:
        """What follows the user's name in sudoers; None where nothing is said, empty where there shall be none of ours."""
        if self.sudo is msgspec.UNSET:
            return None
        return [] if self.sudo is False else [self.sudo] if isinstance(self.sudo, str) else list(self.sudo)

    @property
    def is_only_keys(self) -> bool:
        """Whether nothing is said but keys."""
        return not any(self._says(name) for name in self.__struct_fields__ if name not in ("name", "ssh_authorized_keys"))

    def _says(self, name: str) -> bool:
        value: Any = getattr(self, name)
        return value is not msgspec.UNSET and not (value is False and name in _FLAGS)


def _check_rule(rule: str) -> None:
    """One line of sudoers(5), or `ValueError`: visudo in the guest judges the rest."""
    if len(rule) > MAX_SUDO_RULE or not _SUDO.fullmatch(rule) or rule.rstrip().endswith("\\") or "=" not in rule:
        raise ValueError(f"expected a sudo rule like 'ALL=(ALL) NOPASSWD:ALL', got '{printable(rule, 60)}'")


#: cloud-init's form: a name, or a name with its members.
GroupEntry = (
    str
    | Annotated[dict[str, Annotated[list[UserName], msgspec.Meta(max_length=MAX_MEMBERS)]], msgspec.Meta(max_length=MAX_GROUPS)]
)


def members_by_group(entries: list[GroupEntry]) -> dict[str, list[str]]:
    """Each group's name and the members that it shall have besides those it has; raise `ValueError` for what is no name."""
    groups: dict[str, list[str]] = {}
    for entry in entries:
        for name, members in ({entry: []} if isinstance(entry, str) else entry).items():
            GroupName(name)
            if name in groups:
                raise ValueError(f"'groups' names '{name}' twice")
            groups[name] = list(members)
    return groups
