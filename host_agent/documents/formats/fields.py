# SPDX-License-Identifier: Apache-2.0
"""A mapping that is read field by field: each is taken once, and one that nobody took is an error with its path."""

from __future__ import annotations

from typing import Final

from pv_channel.errors import BadDocument
from pv_channel.text import printable

_YES: Final = ("true", "on", "yes", "1")
_NO: Final = ("false", "off", "no", "0")


class Fields:
    """The fields of *values*, which stand at *path*. A field that is null is absent. Raises `BadDocument`."""

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, dict):
            raise BadDocument(path, f"expected a mapping, got {_kind(values)}")
        self.path = path
        self._left = {str(name): value for name, value in values.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def at(self, name: str) -> str:
        """The path of the field *name*."""
        return f"{self.path}.{printable(name)}" if self.path else printable(name)

    def names(self) -> list[str]:
        """Those that nobody took yet."""
        return list(self._left)

    def peek(self, name: str) -> list[object]:
        """The values of a list, which stays to be taken."""
        value = self._left.get(name)
        return value if isinstance(value, list) else []

    def take(self, name: str) -> object:
        """The field's value; None where it is absent."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str:
        """The field's value, which must be there and be a string."""
        value = self.take(name)
        if not isinstance(value, str):
            raise BadDocument(self.at(name), f"expected a string, got {_kind(value)}")
        return value

    def flag(self, name: str) -> bool | None:
        """The field as a boolean, which may be written as the ``on`` or ``0`` of other tools; None where it is absent."""
        value = self.take(name)
        word = str(value).lower()
        if value is None or word in _YES:
            return None if value is None else True
        if word in _NO:
            return False
        raise BadDocument(self.at(name), f"expected true or false, got '{printable(value, 40)}'")

    def number(self, name: str) -> object:
        """The field as a number, where it is one or digits; anything else as it is, to be refused by whoever checks it."""
        return as_number(self.take(name))

    def entries(self, name: str) -> list[tuple[object, str]]:
        """The values of a list, each with its path; a single value is a list of one, an absent field an empty list."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            return [(value, self.at(name))]
        return [(entry, f"{self.at(name)}[{index}]") for index, entry in enumerate(value)]

    def words(self, name: str) -> list[tuple[object, str]]:
        """The same, and a string is a list of words between blanks or commas."""
        value = self._left.get(name)
        if isinstance(value, str):
            del self._left[name]
            return [(word, self.at(name)) for word in value.replace(",", " ").split()]
        return self.entries(name)

    def parts(self, name: str) -> list[Fields]:
        """The mappings of a list."""
        return [Fields(value, path) for value, path in self.entries(name)]

    def named(self, name: str) -> dict[str, Fields]:
        """The mappings of a mapping, by their keys."""
        group = Fields(self._left.pop(name, None) or {}, self.at(name))
        return {key: Fields(group.take(key), group.at(key)) for key in group.names()}

    def ignore(self, *names: str) -> None:
        """These say nothing that a guest could be told."""
        for name in names:
            self._left.pop(name, None)

    def finish(self, target: str) -> None:
        """Raise `BadDocument` for a field that nobody took: *target* has no word for it."""
        if self._left:
            name = next(iter(self._left))
            raise BadDocument(self.at(name), f"{target} has no counterpart of this; remove it, or say it in another way")


def as_number(value: object) -> object:
    """*value*, as an integer where it is digits."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10 else value


def _kind(value: object) -> str:
    return {dict: "a mapping", list: "a list", str: "a string", type(None): "nothing"}.get(type(value), type(value).__name__)
