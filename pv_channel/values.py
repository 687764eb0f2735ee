# SPDX-License-Identifier: Apache-2.0
"""Strings that cannot be wrong: what stands in a document is checked once, by making one of these.

Each is a `str` that was accepted; making one from anything else raises `ValueError` with what was expected. Every value
ends in configuration files with a syntax of their own, so the alphabets are narrow (no blank, quote, `$`, newline).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

from pv_channel.text import printable

if TYPE_CHECKING:
    import re


class Value(str):
    """A checked string. `check` gives the form that is kept, or raises `ValueError`."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """*text* in its kept form; raise `ValueError` where it cannot be one."""
        return super().__new__(cls, cls.check(text))

    @classmethod
    def check(cls, text: str) -> str:
        """The form of *text* to keep, or `ValueError`."""
        raise ValueError(f"nothing checks that '{printable(text, 40)}' is a {cls.__name__}")  # every subclass has its own check


def share_defaults(struct: msgspec.Struct) -> None:
    """Make each field of *struct* that equals its default that default: msgspec omits a default when it is the same object."""
    defaults = struct.__struct_defaults__
    for name, default in zip(struct.__struct_fields__[-len(defaults) :], defaults, strict=True):
        value = getattr(struct, name)
        if value is not default and value == default:
            msgspec.structs.force_setattr(struct, name, default)


def matching(text: str, pattern: re.Pattern[str], expected: str) -> str:
    """*text*, where *pattern* fits all of it; else a `ValueError` that says what was *expected*."""
    if not pattern.fullmatch(text):
        raise ValueError(f"expected {expected}, got '{printable(text, 40)}'")
    return text
