# SPDX-License-Identifier: Apache-2.0
"""Files of ``KEY=value`` lines that a shell sources, as RHEL's and SUSE's network scripts do: injection points.

What is written is made of words of an alphabet to which no shell gives a meaning; what is read is never more than looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from guest_agent.failure import ItemError
from guest_agent.renderers.sections import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SAFE: Final = re.compile(r"[A-Za-z0-9.:/_-]+", re.ASCII)
#: Within quotes a shell gives ``+`` no meaning either, and some of the bonding driver's words have one.
_OPTION: Final = re.compile(r"[A-Za-z0-9.:/_+-]+", re.ASCII)
_KEY: Final = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_ASSIGNMENT: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.ASCII)
#: What editors and packagers leave behind; the scripts of both pass over it.
_LEFT_BEHIND: Final = (".bak", ".orig", ".rpmsave", ".rpmnew", ".rpmorig", ".old", "~")


#: A word, or several with spaces between, or several ``name=value``.
Value = str | int | list[str] | dict[str, str]


def write(keys: Mapping[str, Value]) -> str:
    """The whole file; raise `ItemError` for what may not stand in it."""
    return HEAD + "".join(f"{assignment(key, value)}\n" for key, value in keys.items())


def assignment(key: str, value: Value) -> str:
    """One line of it, without its end."""
    return f"{_key(key)}={_value(value)}"


def setting(path: str, value: int) -> str:
    """A file of one setting, as sysctl.conf(5) has it."""
    return f"{HEAD}{safe(path)} = {value}\n"


def lines(words: Iterable[Iterable[str]]) -> str:
    """A file of lines of words, as those of routes and rules are."""
    return HEAD + "".join(" ".join(map(safe, line)) + "\n" for line in words)


def read(text: str) -> dict[str, str]:
    """The assignments of a file that anybody may have written, as far as they are plain: quotes off, nothing expanded."""
    found = {}
    for line in text.splitlines():
        assignment = _ASSIGNMENT.fullmatch(line)
        if assignment:
            value = assignment[2].strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[assignment[1]] = value[1:-1] if quoted else value.partition(" #")[0].strip()
    return found


def profiles(names: Iterable[str]) -> list[str]:
    """Those *names* of files that are an interface's configuration."""
    return [name for name in names if name.startswith("ifcfg-") and not name.endswith(_LEFT_BEHIND)]


def safe(value: str) -> str:
    """*value*, if a shell gives no letter of it a meaning; else raise `ItemError`."""
    if not _SAFE.fullmatch(value):
        raise _unsafe(value)
    return str(value)


def _key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise _unsafe(key)
    return key


def _value(value: Value) -> str:
    """A word as it is: programs that are no shell read some of these files too. Anything else in quotes."""
    if isinstance(value, dict):
        return f"'{' '.join(f'{safe(name)}={_option(text)}' for name, text in value.items())}'"
    if isinstance(value, list):
        return safe(value[0]) if len(value) == 1 else f"'{' '.join(map(safe, value))}'"
    return safe(str(value))


def _option(text: str) -> str:
    """The value of an option, which may be several with commas between."""
    if not all(map(_OPTION.fullmatch, text.split(","))):
        raise _unsafe(text)
    return text


def _unsafe(value: str) -> ItemError:
    return ItemError("unsafe-value", f"'{value}' may not stand in a file that a shell reads")
