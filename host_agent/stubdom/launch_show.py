# SPDX-License-Identifier: Apache-2.0
"""Any bytes as one word of a shell's: what is printed of QEMU's arguments can be read, and pasted, and draws on no terminal."""

from __future__ import annotations

import re
from typing import Final

_PLAIN: Final = re.compile(rb"[A-Za-z0-9@%+=:,./_-]+")
_PRINTABLE: Final = range(0x20, 0x7F)
_ESCAPED: Final = b"\\'"


def word(raw: bytes) -> str:
    """*raw* as it is where that is safe, in quotes where it is printable, and else as bash's ``$'…'`` with escapes."""
    if _PLAIN.fullmatch(raw):
        return raw.decode("ascii")
    if all(byte in _PRINTABLE and byte not in _ESCAPED for byte in raw):
        return f"'{raw.decode('ascii')}'"
    return "$'" + "".join(map(_escaped, raw)) + "'"


def short(raw: bytes, limit: int = 80) -> str:
    """The same for a sentence: no more than the first *limit* bytes."""
    return word(raw) if len(raw) <= limit else f"{word(raw[:limit])}..."


def _escaped(byte: int) -> str:
    if byte in _ESCAPED:
        return f"\\{byte:c}"
    return f"{byte:c}" if byte in _PRINTABLE else f"\\x{byte:02x}"
