# SPDX-License-Identifier: Apache-2.0
"""A VM's layers, one over the other: the document that they are together, and which file is at fault where they are none.

From the lowest to the uppermost: the defaults, the groups in the order in which the VM inherits them, the VM's own file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from host_agent.documents.formats.building import KINDS
from host_agent.documents.formats.origins import Origins
from host_agent.documents.layer import OWN
from host_agent.documents.merge import merged, says, source
from host_agent.documents.other_words import tell_root
from host_agent.documents.text_file import located
from pv_channel.document import from_values
from pv_channel.errors import BadDocument
from pv_channel.messages import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from host_agent.documents.layer import Layer
    from host_agent.errors import BadFile
    from pv_channel.document import Document

#: What "generation" and its number add to a document that has none yet.
_GENERATION_BYTES: Final = 32
_QUOTED: Final = re.compile(r"'([\w.-]+)'", re.ASCII)


class Field(NamedTuple):
    """A field at the top of what the layers say together, and the files that it came from, the lowest first."""

    name: str
    value: object
    files: list[Path]


class Stack(NamedTuple):
    """The VM's own file comes last."""

    layers: tuple[Layer, ...]

    def document(self) -> Document:
        """The document that a guest gets; raise `BadFile`, which names the file that says what cannot be."""
        origins = Origins()
        try:
            document = from_values(self._whole(origins))
            _check_confirm(document)
            size = len(document.encode())
        except BadDocument as exc:
            raise self._refusal(exc, origins) from None
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
            raise located(self.layers[-1].path, None, "", "a string that is no Unicode text") from None
        if size > MAX_DOCUMENT_BYTES - _GENERATION_BYTES:
            most = MAX_DOCUMENT_BYTES - _GENERATION_BYTES
            raise located(self.layers[-1].path, None, "", f"has {size} bytes as JSON; a document has at most {most}")
        return document

    def fields(self) -> Iterator[Field]:
        """What one file would have at its top that said it all, the VM's own words first; raise `BadFile` where none can."""
        self.document()
        origins = Origins()
        whole = self._whole(origins)
        for name, value in sorted(whole.items(), key=lambda item: item[0] not in OWN):
            said = [name, *origins.below(name)]
            layers = {index for path in said for index in self._saying(path, is_mapping=isinstance(value, dict))}
            yield Field(name, value, [self.layers[index].path for index in sorted(layers)])

    def _saying(self, path: str, *, is_mapping: bool) -> list[int]:
        """The layers that say what stands at *path*: all that say something of a mapping, else the one that decides."""
        found = [index for index, values in enumerate(self._values()) if says(values, path)]
        return found if is_mapping else found[-1:]

    def _whole(self, origins: Origins) -> dict[str, Any]:
        return tell_root(merged(self._values()), origins)

    def _values(self) -> list[dict[str, Any]]:
        return [layer.values for layer in self.layers]

    def _refusal(self, exc: BadDocument, origins: Origins) -> BadFile:
        """*exc* as the error of the layer that is at fault, and where the values stand that do not go together."""
        path = origins.of(exc.path)
        if len(self.layers) == 1:
            return self.layers[0].refusal(path, exc.problem)
        parts = self._quoted(path, exc.problem)
        at_fault = max((index for index, _ in parts), default=source(self._values(), path))
        own = next((part for index, part in parts if index == at_fault), path)
        others = [self.layers[index].position(part) for index, part in parts if index != at_fault]
        also = f" (see {', '.join(others)})" if others else ""
        return self.layers[at_fault].refusal(path or own, exc.problem + also)

    def _quoted(self, path: str, problem: str) -> list[tuple[int, str]]:
        """The values around *path* that *problem* quotes by name: whose they are, and their paths."""
        found = []
        for name in dict.fromkeys(_QUOTED.findall(problem)):
            for inside in [f"{path}.{name}" if path else name, *(f"{path}.{kind}.{name}" for kind in KINDS)]:
                index = source(self._values(), inside)
                if says(self.layers[index].values, inside):
                    found.append((index, inside))
        return found


def _check_confirm(document: Document) -> None:
    """What this host itself needs to know before it can confirm; a guest's document says nothing of it."""
    confirm = document.confirm
    missing = {"tcp": confirm.tcp, "command": confirm.command}.get(confirm.check)
    if missing is msgspec.UNSET:
        example = "tcp: 192.0.2.10:22" if confirm.check == "tcp" else "command: [/usr/local/bin/reaches, web1]"
        raise BadDocument("confirm", f"'check' is '{confirm.check}', and nothing says which; add '{example}'")
