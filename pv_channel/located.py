# SPDX-License-Identifier: Apache-2.0
"""Where in a document something is wrong: msgspec's message as a path and a problem, without what may be a secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

_MESSAGE: Final = re.compile(r"(?P<problem>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[]+)|\[([0-9]{1,9})\]", re.ASCII)
#: A password's hash (crypt(5)) to its end, and anything in PEM: somebody put it where it does not belong.
_SECRET: Final = re.compile(r"\$[A-Za-z0-9-]{1,12}\$[^\s'`]*|-----BEGIN.*", re.DOTALL)
#: No mapping of a document's stands deeper within mappings. A field's name, which msgspec quotes, may look like a deep path.
_MAX_MAPPINGS: Final = 3
#: A path of this length says enough.
_MAX_PATH: Final = 200
_MAX_PROBLEM: Final = 300


def located(values: object, message: str, fails: Callable[[object], str]) -> tuple[str, str]:
    """The path in *values* that msgspec's *message* means, and the problem there; both safe to print.

    For a key of a mapping msgspec writes ``[...]``; which one it is *fails* shows: it converts values, and gives the message.
    """
    match = _MESSAGE.fullmatch(message)
    problem, pattern = (match["problem"], match["path"] or "") if match else (message, "")
    path, *rest = pattern.split("[...]", _MAX_MAPPINGS)
    part = _part(values, path)
    for after in rest:
        mapping = _at(part, path)
        path = f"{path}.{_culprit(mapping, message, part, fails) if isinstance(mapping, dict) else '?'}{after}"
    unknown = _UNKNOWN.fullmatch(problem)
    if unknown:
        problem, path = "unknown field", f"{path}.{unknown['name']}"
    return _shown(path.lstrip("."), _MAX_PATH), _shown(problem, _MAX_PROBLEM)


def _shown(text: str, limit: int) -> str:
    return printable(_SECRET.sub("(a secret)", text), limit)


def _part(values: object, path: str) -> object:
    """*values* with nothing but the field that *path* begins with: it is converted again and again."""
    step = _STEP.match(path)
    name = step[1] if step else None
    return {"instance-id": "i", name: values[name]} if isinstance(values, dict) and name in values else values


def _at(values: object, path: str) -> object:
    """What stands in *values* at a path of ``.name`` and ``[index]`` steps."""
    for name, index in _STEP.findall(path):
        if name and isinstance(values, dict):
            values = values.get(name)
        elif index and isinstance(values, list) and int(index) < len(values):
            values = values[int(index)]
    return values


def _culprit(mapping: dict[Any, Any], message: str, part: object, fails: Callable[[object], str]) -> str:
    """Which key of *mapping*, which stands in *part*, makes conversion fail with *message*; by halves, for a large one."""
    whole = dict(mapping)
    suspects = list(whole)
    try:
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            mapping.clear()
            mapping.update((key, whole[key]) for key in half)
            suspects = half if fails(part) == message else suspects[len(half) :]
    finally:
        mapping.clear()
        mapping.update(whole)
    return str(suspects[0]) if suspects else "?"
