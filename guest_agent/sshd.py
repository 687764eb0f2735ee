# SPDX-License-Identifier: Apache-2.0
"""The machine's ssh server: where its files are, what its configuration says and where, and how it is made to look again."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from guest_agent.changes.files import MakeDirectory
from guest_agent.changes.running import RunCommand
from guest_agent.system import split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System

DIRECTORY: Final = "/etc/ssh"
OURS: Final = "/etc/ssh/sshd_config.d/30-pv-guest-agent.conf"
#: openSUSE keeps the distribution's file under /usr.
_MAIN: Final = ("/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config")
#: There while the server runs (PidFile of sshd_config(5)): before its start, nothing has to be told.
_PID_FILE: Final = "/run/sshd.pid"
_UNIT_DIRECTORIES: Final = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
#: Where sshd locks itself in, by distribution; it does not even test its configuration without.
_PRIVILEGE_SEPARATION: Final = ("/run/sshd", "/usr/share/empty.sshd", "/var/empty/sshd", "/var/lib/empty")
#: sshd's own depth of nested includes.
_DEPTH: Final = 16
_ALIASES: Final = {"challengeresponseauthentication": "kbdinteractiveauthentication"}


class Setting(NamedTuple):
    """One line that holds for every connection. *keyword* is in lower case; empty where our own file is included."""

    keyword: str
    value: str
    path: str
    line: int


def main_file(draft: Draft) -> str:
    """The server's configuration; empty where there is no server."""
    return next((path for path in _MAIN if draft.system.exists(path)), "")


def settings(draft: Draft, path: str, depth: int = 0) -> Iterator[Setting]:
    """The settings of the file *path* in the order in which sshd meets them, included files in their places.

    Of two the first counts (sshd_config(5)). What is behind a Match, up to ``Match all``, is not among them.
    """
    matching = False
    for number, text in enumerate(draft.text(path).splitlines(), 1):
        keyword, value = _parted(text)
        if keyword == "match":
            matching = value.lower() != "all"
        elif keyword == "include" and not matching and depth < _DEPTH:
            for included in [one for pattern in value.split() for one in _included(draft.system, pattern.strip('"'))]:
                if included == OURS:
                    yield Setting("", "", OURS, 0)
                else:
                    yield from settings(draft, included, depth + 1)
        elif keyword and not matching:
            yield Setting(keyword, value, path, number)


def _parted(text: str) -> tuple[str, str]:
    text = text.strip()
    if not text or text.startswith("#"):
        return "", ""
    found = re.match(r"(\w+)(?:\s*=\s*|\s+)(.*)", text)
    keyword, value = (found[1].lower(), found[2]) if found else (text.lower(), "")
    return _ALIASES.get(keyword, keyword), value.strip().strip('"')


def _included(system: System, pattern: str) -> list[str]:
    """The files that *pattern* means, in glob(3)'s order; ours is among them where it would be."""
    parent, name = split(pattern if pattern.startswith("/") else f"{DIRECTORY}/{pattern}")
    names = {*system.names(parent), *([split(OURS)[1]] if parent == split(OURS)[0] else [])}
    return [f"{parent}/{one}" for one in sorted(names) if fnmatchcase(one, name) and one.startswith(".") <= name.startswith(".")]


def reloaded(system: System, changes: list[Change]) -> list[Change]:
    """*changes* with what makes a running server look at them, and look again should they be undone."""
    if not changes or not system.exists("/run/systemd/system"):
        return changes
    units = (unit for unit in ("ssh.service", "sshd.service") if any(system.exists(f"{d}/{unit}") for d in _UNIT_DIRECTORIES))
    argv = ["systemctl", "try-reload-or-restart", next(units, "sshd.service")]
    return [RunCommand([], argv, while_exists=_PID_FILE), *changes, RunCommand(argv, [], while_exists=_PID_FILE)]


def tested(system: System) -> list[Change]:
    """What lets the real server judge its configuration."""
    there = any(system.exists(path) for path in _PRIVILEGE_SEPARATION)
    made: list[Change] = [] if there or not system.live else [MakeDirectory(_PRIVILEGE_SEPARATION[0])]
    return [*made, RunCommand(["sshd", "-t"], [])]
