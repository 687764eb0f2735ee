# SPDX-License-Identifier: Apache-2.0
"""A JSON object that is to be said to QEMU, read member by member as strictly as QEMU reads it, and refused in its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.qemu.migration_address import UINT64_MAX, BadChannel
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

#: QEMU takes a negative number, and reads it as the unsigned one of the same bits.
_INT64_MIN: Final = -(2**63)


class Members:
    """The members of one JSON object: each is taken once, and what nobody took is an error. *name* is QEMU's for the object."""

    def __init__(self, value: object, name: str) -> None:
        if not isinstance(value, dict):
            raise BadChannel(f"Invalid parameter type for '{name}', expected: object")
        self._left, self.name = dict(value), name

    def __contains__(self, name: str) -> bool:
        """Whether it is there and not taken yet."""
        return name in self._left

    def place(self, name: str) -> str:
        """The full name of a member."""
        return f"{self.name}.{printable(name)}" if self.name else printable(name)

    def take(self, name: str) -> object:
        """A member of any type that must be there."""
        if name not in self._left:
            raise BadChannel(f"Parameter '{self.place(name)}' is missing")
        return self._left.pop(name)

    def string(self, name: str) -> str:
        """One that is a string."""
        return _string(self.take(name), self.place(name))

    def one_of(self, name: str, values: Iterable[str]) -> str:
        """One that is one of *values*."""
        value = self.string(name)
        if value not in values:
            raise BadChannel(f"{self.name}: Parameter '{name}' does not accept value '{printable(value)}'")
        return value

    def integer(self, name: str) -> int:
        """One that is an integer, of those that JSON of QEMU's can have."""
        value = self.take(name)
        # To Python a boolean is an integer.
        if not isinstance(value, int) or isinstance(value, bool) or not _INT64_MIN <= value <= UINT64_MAX:
            raise BadChannel(f"Parameter '{self.place(name)}' expects uint64")
        return value

    def boolean(self, name: str) -> bool | None:
        """One that need not be there."""
        if name not in self:
            return None
        value = self.take(name)
        if not isinstance(value, bool):
            raise BadChannel(f"Invalid parameter type for '{self.place(name)}', expected: boolean")
        return value

    def array(self, name: str) -> list[object]:
        """One that is an array."""
        value = self.take(name)
        if not isinstance(value, list):
            raise BadChannel(f"Invalid parameter type for '{self.place(name)}', expected: array")
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        """One that is an array of strings."""
        return tuple(_string(each, f"{self.place(name)}[{index}]") for index, each in enumerate(self.array(name)))

    def members(self, name: str) -> Members:
        """One that is an object."""
        return Members(self.take(name), self.place(name))

    def end(self) -> None:
        """Nothing is left."""
        for name in self._left:
            raise BadChannel(f"Parameter '{self.place(name)}' is unexpected")


def _string(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise BadChannel(f"Invalid parameter type for '{place}', expected: string")
    return value
