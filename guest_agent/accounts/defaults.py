# SPDX-License-Identifier: Apache-2.0
"""What this machine gives a new user who says nothing else: login.defs(5) and useradd(8)'s own defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LOGIN_DEFS: Final = "/etc/login.defs"
USERADD: Final = "/etc/default/useradd"


class Defaults(NamedTuple):
    """Words and values of both files, as they stand there."""

    login: dict[str, str]
    useradd: dict[str, str]

    def number(self, word: str, otherwise: int) -> int:
        """A number of login.defs, in C's notation: 022 is octal."""
        return _number(self.login.get(word, ""), otherwise)

    def ids(self, kind: str, *, system: bool) -> range:
        """The ids that new users (*kind* ``UID``) or groups (``GID``) get."""
        first = self.number(f"{kind}_MIN", 1000)
        if system:
            return range(self.number(f"SYS_{kind}_MIN", 101), self.number(f"SYS_{kind}_MAX", first - 1) + 1)
        return range(first, self.number(f"{kind}_MAX", 60000) + 1)

    def subordinate(self, kind: str) -> tuple[int, int, int]:
        """First, last and count of the subordinate ids (*kind* ``UID``, ``GID``) of a new user."""
        first, last = self.number(f"SUB_{kind}_MIN", 100000), self.number(f"SUB_{kind}_MAX", 600100000)
        return first, last, self.number(f"SUB_{kind}_COUNT", 65536)

    @property
    def own_group(self) -> bool:
        """Whether a new user gets a group of the same name."""
        return self.login.get("USERGROUPS_ENAB", "").lower() == "yes"

    @property
    def group(self) -> str:
        """The group, by name or number, of new users who get none of their own."""
        return self.useradd.get("GROUP", "100")

    @property
    def home_base(self) -> str:
        """Where homes are."""
        return self.useradd.get("HOME", "/home").rstrip("/")

    @property
    def home_mode(self) -> int:
        """A new home's mode. Where the machine does not say, nobody else looks into it."""
        return self.number("HOME_MODE", 0o700) & 0o777

    @property
    def skeleton(self) -> str:
        """What a new home is made from."""
        return self.useradd.get("SKEL", "/etc/skel")

    def aging(self) -> list[str]:
        """min, max, warn and inactive of shadow(5) for people; empty where the machine sets no such limit."""
        numbers = [self.number(f"PASS_{word}", -1) for word in ("MIN_DAYS", "MAX_DAYS", "WARN_AGE")]
        numbers.append(_number(self.useradd.get("INACTIVE", ""), -1))
        return ["" if number < 0 else str(number) for number in numbers]


def read(text: Callable[[str], str]) -> Defaults:
    """The machine's, whose files *text* reads."""
    login = dict(_words(line.split(None, 1)) for line in text(LOGIN_DEFS).splitlines())
    useradd = dict(_words(line.split("=", 1)) for line in text(USERADD).splitlines())
    return Defaults(login, useradd)


def _words(parts: list[str]) -> tuple[str, str]:
    if len(parts) != 2 or parts[0].startswith("#"):
        return "", ""
    return parts[0].strip(), parts[1].strip().strip('"')


def _number(text: str, otherwise: int) -> int:
    base = 8 if text.startswith("0") and text[1:].isdigit() else 10
    try:
        return int(text, base)
    except ValueError:
        return otherwise
