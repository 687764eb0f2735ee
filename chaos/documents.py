# SPDX-License-Identifier: Apache-2.0
"""What each guest should be: a document per VM, in a directory or in etcd, each with a content that no other ever had."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final, Protocol

from chaos.guest import SERIAL_FILE
from chaos.herd import name_of
from pv_channel.document import from_values

if TYPE_CHECKING:
    from pathlib import Path

_BAD: Final = '{"instance-id": "i", "local-hostname": "web1; reboot"}'
#: Where an editor that writes in place has got to when it is looked at.
_HALF: Final = 40


class Place(Protocol):
    """Where documents are."""

    def put(self, name: str, text: str) -> None:
        """The VM's document is this from now on."""


class Directory:
    """A directory of them, *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, text: str) -> None:
        """All at once."""
        fresh = self._path / f".{name}"
        fresh.write_text(text, encoding="ascii")
        fresh.rename(self._path / f"{name}.json")

    def put_bit_by_bit(self, name: str, text: str) -> None:
        """As an editor does that knows no better."""
        with (self._path / f"{name}.json").open("w", encoding="ascii") as file:
            for part in (text[:_HALF], text[_HALF:]):
                file.write(part)
                file.flush()
                time.sleep(0.01)


class Documents:
    """In *place*, for *count* guests."""

    def __init__(self, place: Place, count: int) -> None:
        self._place = place
        self._serials = [0] * count
        #: The digest of what each guest should be now.
        self.digests = [""] * count

    def change(self, number: int) -> None:
        """Another document for a guest."""
        self._place.put(name_of(number), self._next(number))

    def change_bit_by_bit(self, number: int) -> None:
        """The same, where there is a file to be written by bits."""
        put = self._place.put_bit_by_bit if isinstance(self._place, Directory) else self._place.put
        put(name_of(number), self._next(number))

    def spoil(self, number: int) -> None:
        """What cannot be a document."""
        self._place.put(name_of(number), _BAD)

    def content(self, number: int) -> str:
        """What the guest's file should hold."""
        return f"{number} {self._serials[number]}\n"

    @property
    def changes(self) -> int:
        """How many documents there were."""
        return sum(self._serials)

    def _next(self, number: int) -> str:
        self._serials[number] += 1
        file = {"path": SERIAL_FILE, "content": self.content(number)}
        values = {"instance-id": f"i-{number}", "local-hostname": f"web{number}", "write_files": [file]}
        self.digests[number] = from_values(values).digest()
        return json.dumps(values)
