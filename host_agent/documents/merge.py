# SPDX-License-Identifier: Apache-2.0
"""Lay values over values, as JSON Merge Patch does (RFC 7396), and say afterwards from which of them a value came.

Mappings merge key by key at any depth, ``null`` takes away, and everything else, lists too, replaces what was there.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def merged(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the layers say together, each over those before it; none of them is changed."""
    return reduce(_patched, layers, {})


def _patched(target: object, patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396's MergePatch, of a patch that is an object."""
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _patched(result.get(name), value) if isinstance(value, dict) else value
    return result


def source(layers: Sequence[Mapping[str, Any]], path: str) -> int:
    """The index of the layer that decided what stands at *path* (``network.ethernets.eth0.mtu``) in the merged values.

    That is the last one that says it, or part of it, or has a value on the way there that is no mapping. Where none does, the one
    that says most of what is around it.
    """
    return max(range(len(layers)), key=lambda index: (_reach(layers[index], path), index))


def says(values: object, path: str) -> bool:
    """Whether *values* have something at *path*, or a value on the way there that is no mapping."""
    return _reach(values, path) == len(path)


def nulls(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The paths of what *values* take away."""
    for name, value in values.items():
        inside = f"{path}.{name}" if path else name
        if value is None:
            yield inside
        elif isinstance(value, dict):
            yield from nulls(value, inside)


def _reach(values: object, path: str) -> int:
    """How many characters of *path* lead somewhere in *values*; all, where a value that is no mapping stands on the way."""
    rest = path
    while rest and isinstance(values, dict):
        # A key may hold dots: the longest that fits is meant.
        fitting = [name for name in values if rest.startswith(name) and rest[len(name) :][:1] in ("", ".", "[")]
        name = max(fitting, key=len, default="")
        if not name:
            return len(path) - len(rest)
        values, rest = values[name], rest[len(name) :].removeprefix(".")
    return len(path)
