# SPDX-License-Identifier: Apache-2.0
"""YAML or JSON text into plain values, and a place in those values back into a line of the text.

Plain scalars mean what YAML 1.2's core schema says: an unquoted ``no``, ``00:16:3e:00:00:01`` or ``2024-01-01`` is a string,
where YAML 1.1 makes a boolean, a sexagesimal number and a date of them. A key that stands twice is refused.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    import yaml

#: A document's values, aliases expanded; the largest document that is any use has some ten thousand.
MAX_VALUES: Final = 100_000
#: A document nests seven deep.
MAX_DEPTH: Final = 32

_PREFIX: Final = "tag:yaml.org,2002:"
_CORE: Final = (
    (re.compile(r"(?:null|Null|NULL|~|)", re.ASCII), "null"),
    (re.compile(r"(?:true|True|TRUE|false|False|FALSE)", re.ASCII), "bool"),
    (re.compile(r"[-+]?[0-9]{1,19}|0o[0-7]{1,21}|0x[0-9a-fA-F]{1,16}", re.ASCII), "int"),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII), "float"),
)


class Place(NamedTuple):
    """A line and a column of the text, both from 1."""

    line: int
    column: int


class BadText(Exception):  # noqa: N818 -- it says what the text is
    """Text that is no YAML or JSON of ours; *place* is where, if that is known."""

    def __init__(self, problem: str, place: Place | None = None) -> None:
        super().__init__(problem)
        self.place = place


class Parsed(NamedTuple):
    """What the text says. *root* is YAML's own tree of it, for finding places; None where JSON is not also YAML."""

    values: object
    root: yaml.Node | None


def parse(text: str) -> Parsed:
    """The values of *text*, which is JSON if it starts with a brace and reads as such, else YAML; raise `BadText`."""
    if not text.lstrip().startswith("{"):
        root = _compose(text)
        return Parsed(_Builder().value(root, 0), root)
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise BadText("nests too deep") from None
    except json.JSONDecodeError as exc:
        not_json = BadText(f"not JSON: {exc.msg}", Place(exc.lineno, exc.colno))
        try:
            root = _compose(text)
        except BadText:
            raise not_json from None
        return Parsed(_Builder().value(root, 0), root)
    except ValueError as exc:  # a number of thousands of digits
        raise BadText(f"not JSON: {printable(str(exc).partition(';')[0], 200)}") from None
    try:
        return Parsed(values, _compose(text))
    except BadText:  # JSON's \ud83d\ude00, for one, is not YAML: no places then
        return Parsed(values, None)


def place_of(parsed: Parsed, path: str) -> Place | None:
    """Where the value at *path* (``users[0].name``) stands, or the nearest thing around it that is there."""
    node, _ = _node_at(parsed, path)
    return None if node is None else _start(node)


def is_blank(parsed: Parsed, path: str) -> bool:
    """Whether nothing at all is written where the value at *path* should stand: ``key:``, where ``key: null`` is a word."""
    node, rest = _node_at(parsed, path)
    return node is not None and not rest and node.value == "" and node.tag == _PREFIX + "null"


def _node_at(parsed: Parsed, path: str) -> tuple[yaml.Node | None, str]:
    """The node at *path*, or the nearest around it, and what of the path is then left."""
    import yaml

    node = parsed.root
    rest = path
    while node is not None and rest:
        step = None
        if isinstance(node, yaml.MappingNode):
            step = _into_mapping(node, rest.removeprefix("."))
        elif isinstance(node, yaml.SequenceNode) and (match := re.match(r"\[([0-9]{1,9})\]", rest)):
            index = int(match[1])
            step = (node.value[index], rest[match.end() :]) if index < len(node.value) else None
        if step is None:
            break
        node, rest = step
    return node, rest


def _into_mapping(node: yaml.MappingNode, path: str) -> tuple[yaml.Node, str] | None:
    """The value whose key *path* starts with, and the rest of the path. A key may hold dots: the longest that fits is meant."""
    best: tuple[str, yaml.Node] = ("", node)
    for key, value in node.value:
        name = str(key.value)
        if len(name) > len(best[0]) and path.startswith(name) and path[len(name) :][:1] in ("", ".", "["):
            best = (name, value)
    return (best[1], path[len(best[0]) :]) if best[0] else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadText(f"the key '{printable(twice)}' stands twice in one object")
    return values


def _compose(text: str) -> yaml.Node:
    """YAML's tree of *text*, with the core schema's tags; raise `BadText`."""
    import yaml

    loader = _loader()
    try:
        _check_depth(yaml.parse(text, Loader=loader))
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as exc:
        problem = printable(exc.problem or exc.context, 200)
        raise BadText(f"not YAML: {problem}", _at(exc.problem_mark or exc.context_mark)) from None
    except yaml.YAMLError as exc:
        raise BadText(f"not YAML: {printable(str(exc).partition(chr(10))[0], 200)}") from None
    if root is None:
        raise BadText("empty")
    return root


def _check_depth(events: Iterable[yaml.Event]) -> None:
    """Raise `BadText` before anything recurses over what nests too deep: libyaml's composer would overflow the C stack."""
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise BadText(f"nests deeper than {MAX_DEPTH}", _at(event.start_mark))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def core_tag(text: str) -> str:
    """The tag of the plain scalar *text* in YAML 1.2's core schema."""
    return _PREFIX + next((tag for pattern, tag in _CORE if pattern.fullmatch(text)), "str")


@cache
def _loader() -> type[yaml.SafeLoader]:
    import yaml

    try:
        from yaml import CSafeLoader as Loader
    except ImportError:  # PyYAML built without libyaml
        from yaml import SafeLoader as Loader  # type: ignore[assignment]  # the same interface, slower

    class CoreLoader(Loader):
        """The safe loader with the core schema for plain scalars."""

        def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
            if kind is yaml.ScalarNode and implicit[0] and value is not None:
                return core_tag(value)
            return _PREFIX + {yaml.ScalarNode: "str", yaml.SequenceNode: "seq", yaml.MappingNode: "map"}[kind]

    return CoreLoader  # type: ignore[return-value]  # the C loader has the interface, not the class


class _Builder:
    """Makes values of YAML's nodes, counting them, so that a few lines of aliases do not become a gigabyte."""

    def __init__(self) -> None:
        self._count = 0

    def value(self, node: yaml.Node, depth: int) -> object:
        """The plain value that *node* is; raise `BadText`."""
        import yaml

        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:
            too_many = f"has more than {MAX_VALUES} values, aliases expanded"
            raise BadText(f"nests deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else too_many, _start(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
            return [self.value(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        raise BadText(f"the tag '{printable(node.tag)}' has no meaning here", _start(node))

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = getattr(key_node, "value", None)
            if not isinstance(key, str):
                raise BadText("a key that is no string", _start(key_node))
            if key in values:
                raise BadText(f"the key '{printable(key)}' stands twice in one mapping", _start(key_node))
            values[key] = self.value(value_node, depth + 1)
        return values


def _scalar(node: yaml.ScalarNode) -> object:
    kind, text = node.tag.removeprefix(_PREFIX), str(node.value)
    patterns = {tag: pattern for pattern, tag in _CORE}
    if kind == "str":
        return text
    if kind not in patterns or not patterns[kind].fullmatch(text):
        raise BadText(f"'{printable(text, 40)}' with the tag '{printable(node.tag)}' has no meaning here", _start(node))
    if kind == "int":
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return {"null": None, "bool": text.lower() == "true"}[kind] if kind != "float" else float(text)


def _start(node: yaml.Node) -> Place | None:
    return _at(node.start_mark)


def _at(mark: Any) -> Place | None:
    """A mark of either parser, C's or Python's, which count from 0."""
    return None if mark is None else Place(mark.line + 1, mark.column + 1)
