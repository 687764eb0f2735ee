# SPDX-License-Identifier: Apache-2.0
"""One of the files that make a document together: its values in the document's own words, and where each of them stands in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.documents.aliases import ROOTS
from host_agent.documents.directory import MAX_NAME
from host_agent.documents.formats.origins import Origins
from host_agent.documents.merge import nulls
from host_agent.documents.other_words import rename, tell_root
from host_agent.documents.text_file import located, position
from host_agent.documents.yaml_values import BadText, Parsed, is_blank, parse, place_of
from pv_channel.document import converted
from pv_channel.errors import BadDocument
from pv_channel.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.errors import BadFile

#: The words of a VM's own file that say which layers are below it; they are never sent.
INHERIT: Final = "inherit"
DEFAULTS: Final = "defaults"
#: More groups than a VM is in.
MAX_INHERITED: Final = 32
#: A group's name, which is a file's too.
GROUP: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}", re.ASCII)
#: What one VM alone can say of itself.
OWN: Final = {
    "instance-id": "says which machine a VM is",
    "uuid": "says which VM is meant",
    "generation": "counts one VM's documents",
    DEFAULTS: "says whether one VM has defaults",
    INHERIT: "names all of a VM's groups, and groups do not inherit",
}


class Layer(NamedTuple):
    """The file at *path*. *values* are in the document's own words, `tell_root`'s aside; *origins* leads them back."""

    path: Path
    values: dict[str, Any]
    parsed: Parsed
    origins: Origins

    def refusal(self, path: str, problem: str) -> BadFile:
        """The error that this file says something wrong at *path* of its values."""
        inside = self.origins.of(path)
        return located(self.path, place_of(self.parsed, inside), inside, problem)

    def position(self, path: str) -> str:
        """File, line and column of what stands at *path* of its values."""
        return position(self.path, place_of(self.parsed, self.origins.of(path)))


class Own(NamedTuple):
    """A VM's own file: the uppermost layer, and which are to lie below it."""

    layer: Layer
    inherit: list[str]
    has_defaults: bool


def layer_of(text: str, path: Path) -> Layer:
    """What *text* says; *path* is only named in the `BadFile` that is raised where it says nothing of ours."""
    try:
        parsed = parse(text)
    except BadText as exc:
        raise located(path, exc.place, "", str(exc)) from None
    origins = Origins()
    layer = Layer(path, {}, parsed, origins)
    try:
        layer = layer._replace(values=rename(parsed.values, origins))
        blank = next((null for null in nulls(layer.values) if is_blank(parsed, origins.of(null))), None)
    except BadDocument as exc:
        raise layer.refusal(exc.path, exc.problem) from None
    if blank is not None:
        raise layer.refusal(blank, "nothing stands here; write a value, or 'null' to take away what the layers below say")
    return layer


def own_of(text: str, path: Path) -> Own:
    """The VM's own file that *text* is; raise `BadFile`."""
    layer = layer_of(text, path)
    values = dict(layer.values)
    inherit, has_defaults = values.pop(INHERIT, []), values.pop(DEFAULTS, True)
    if not isinstance(has_defaults, bool):
        raise layer.refusal(DEFAULTS, "expected false, for a VM without the defaults")
    if not isinstance(inherit, list) or len(inherit) > MAX_INHERITED:
        raise layer.refusal(INHERIT, f"expected a list of at most {MAX_INHERITED} groups' names, like [web, vienna]")
    for index, group in enumerate(inherit):
        if not isinstance(group, str) or not GROUP.fullmatch(group):
            raise layer.refusal(f"{INHERIT}[{index}]", f"expected a group's name, got '{printable(group, 40)}'")
        if group in inherit[:index]:
            raise layer.refusal(f"{INHERIT}[{index}]", f"names '{group}' for the second time")
    own = Own(layer._replace(values=values), inherit, has_defaults)
    if any(nulls(values)):  # which the document will not show
        _check_part(own.layer)
    return own


def shared_of(text: str, path: Path) -> Layer:
    """The defaults or the group that *text* is: a part of a document, each of whose values can stand in one; raise `BadFile`."""
    layer = layer_of(text, path)
    for name, what in OWN.items():
        if name in layer.values:
            raise layer.refusal(name, f"stands in a VM's own file alone: it {what}")
    _check_part(layer)
    return layer


def _check_part(layer: Layer) -> None:
    """Raise `BadFile` for what can stand in no document, whatever else is said."""
    from host_agent.documents.partial import partial

    origins = Origins()
    values = {name: value for name, value in layer.values.items() if value is not None or name not in ROOTS}
    try:
        converted(tell_root(values, origins), partial())
    except BadDocument as exc:
        raise layer.refusal(origins.of(exc.path), exc.problem) from None
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        raise located(layer.path, None, "", "a string that is no Unicode text") from None
