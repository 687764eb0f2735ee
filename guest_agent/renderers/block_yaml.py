# SPDX-License-Identifier: Apache-2.0
"""Plain values as YAML in block style, for people to read; every string that might be anything else stands in quotes.

What is quoted is JSON, which YAML's double quotes understand (YAML 1.2, section 5.7); no library is needed to write it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Keys that no reader takes for a number, a date or null; and those of them that YAML 1.1 takes for a truth value.
_PLAIN: Final = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def dump(value: dict[str, Any]) -> str:
    """*value*, of dictionaries, lists, strings of ASCII, whole numbers and truth values, as a document."""
    return "".join(f"{line}\n" for line in _mapping(value))


def _mapping(value: dict[str, Any]) -> Iterator[str]:
    for key, item in value.items():
        name = key if _PLAIN.fullmatch(key) and key not in _WORDS else _scalar(key)
        if item and isinstance(item, dict | list):
            yield f"{name}:"
            yield from (f"  {line}" for line in (_mapping(item) if isinstance(item, dict) else _sequence(item)))
        else:
            yield f"{name}: {_scalar(item)}"


def _sequence(value: list[Any]) -> Iterator[str]:
    for item in value:
        lines = list(_mapping(item)) if isinstance(item, dict) and item else [_scalar(item)]
        yield f"- {lines[0]}"
        yield from (f"  {line}" for line in lines[1:])


def _scalar(value: object) -> str:
    import json

    return json.dumps(value)
