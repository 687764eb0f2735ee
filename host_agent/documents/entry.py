# SPDX-License-Identifier: Apache-2.0
"""Put one entry into a mapping of an operator's YAML or JSON, and leave every other byte of the YAML as the operator wrote it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from host_agent.documents.yaml_values import BadText, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    import yaml


class NoRoom(Exception):  # noqa: N818 -- it says what the text is
    """Nothing can be put in there without changing what else the text says, or how it is written."""


def with_entry(text: str, path: Sequence[str], value: str) -> str:
    """*text* with *value* at *path*, whose mappings are made where they are missing; raise `BadText`, `NoRoom`.

    The same text comes back where it says so already.
    """
    if not text.strip():
        return _block(path, value, "")
    before = parse(text)
    wanted = _put(before.values, path, value)
    if wanted == before.values:
        return text
    if _is_json(text):
        return json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"
    made = _in_block(text, before.root, path, value)
    try:
        said = parse(made).values
    except BadText:
        raise NoRoom from None
    if said != wanted:
        raise NoRoom
    return made


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _put(values: object, path: Sequence[str], value: str) -> dict[str, Any]:
    """A copy of *values* with it; raise `NoRoom` where something else stands there, or on the way."""
    if not isinstance(values, dict):
        raise NoRoom
    name, *rest = path
    if rest:
        return {**values, name: _put(values.get(name, {}), rest, value)}
    if values.get(name, value) != value:
        raise NoRoom
    return {**values, name: value}


def _in_block(text: str, root: yaml.Node | None, path: Sequence[str], value: str) -> str:
    """*text* with a new line, or several, in the innermost mapping on the way that is there."""
    import yaml

    mapping, rest = root, list(path)
    while isinstance(mapping, yaml.MappingNode) and not mapping.flow_style:
        inner = next((node for key, node in mapping.value if key.value == rest[0]), None)
        if inner is None:
            return _inserted(text, mapping, _block(rest, value, " " * mapping.start_mark.column))
        mapping, rest = inner, rest[1:]
    raise NoRoom


def _inserted(text: str, mapping: yaml.MappingNode, block: str) -> str:
    """*block* before the first key of *mapping*, or at the end of *text* where that is all of it."""
    if mapping.start_mark.column == 0:
        return text + "\n" * (not text.endswith("\n")) + block
    lines = text.splitlines(keepends=True)
    line = mapping.start_mark.line
    if lines[line][: mapping.start_mark.column].strip():
        raise NoRoom
    return "".join([*lines[:line], block, *lines[line:]])


def _block(path: Sequence[str], value: str, indent: str) -> str:
    """The lines that say *value* at *path*. JSON's strings are YAML's, in either version."""
    lines = [f"{indent}{'  ' * depth}{_key(name)}:\n" for depth, name in enumerate(path)]
    return "".join(lines)[:-1] + f" {json.dumps(value)}\n"


def _key(name: str) -> str:
    return name if name.replace("_", "").isalpha() else json.dumps(name)
