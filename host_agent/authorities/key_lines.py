# SPDX-License-Identifier: Apache-2.0
"""What a file of ours about keys holds: lines of a type, base64 and a comment. No error quotes any of it."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Final

from host_agent.errors import BadFile, shown
from pv_channel.text import printable

if TYPE_CHECKING:
    from pathlib import Path

#: A private key and a certificate, each with a comment.
MAX_BYTES: Final = 2048


def line(kind: str, data: bytes, comment: str = "") -> bytes:
    """*data* as a line of the type *kind*, with its newline."""
    text = f"{kind} {b2a_base64(data, newline=False).decode('ascii')} {printable(comment)}".rstrip()
    return text.encode("ascii") + b"\n"


def decoded(path: Path | str, data: bytes, kind: str, length: int | None = None) -> bytes:
    """What the one line in *data* holds, *length* bytes where that is given; raise `BadFile` naming *path*."""
    try:
        return value(data, kind, length)
    except ValueError:
        raise BadFile(f"{shown(path)}: expected one line '{kind} BASE64'; is it damaged, or another kind of file?") from None


def value(data: bytes, kind: str, length: int | None = None) -> bytes:
    """What the one line in *data* holds; raise `ValueError`."""
    fields = data.split(maxsplit=2)
    if len(data) > MAX_BYTES or len(fields) < 2 or fields[0] != kind.encode("ascii") or data.rstrip().count(b"\n"):
        raise ValueError
    decoded = a2b_base64(fields[1], strict_mode=True)
    if length is not None and len(decoded) != length:
        raise ValueError
    return decoded


def read_public(path: Path) -> bytes:
    """What a file that is no secret holds, no more than `MAX_BYTES` and one; raise `BadFile`."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}") from None
