# SPDX-License-Identifier: Apache-2.0
"""Show what somebody else said, without letting it draw on the reader's terminal or flood a log."""

from __future__ import annotations


def printable(value: object, limit: int = 80) -> str:
    """*value* as one line of at most *limit* characters, every control and non-printable character escaped."""
    cut = slice(limit + 1)
    text = value[cut].decode("latin-1") if isinstance(value, (bytes, bytearray)) else str(value)[cut]
    shown = text
    if not (text.isascii() and text.isprintable()):
        # ascii() escapes what is not printable ASCII, bidirectional overrides included; its quotes are not wanted.
        shown = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= limit else shown[: max(limit - 3, 0)] + "..."
