# SPDX-License-Identifier: Apache-2.0
"""Make bytes worse, the same way for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

#: What parsers trip over: ends, signs, huge numbers, half an escape, the wrong encoding.
TOKENS: Final = (
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"=",
    b"==",
    b"-1",
    b"0",
    b"00000000",
    b"ffffffff",
    b"100000000",
    b"........",
    b">",
    b"<",
    b"\xff",
    b"\xc3",
    b'"',
    b"\\u",
    b"\\ud800",
    b"{}",
    b"[]",
    b"[[[[[[[[",
    b"null",
    b"1e999",
    b"9" * 40,
    b"\x1b[2J",
    b"A" * 100,
    b"%s",
    b"[...]",
    b"\xe2\x80\xae",
)
#: No case is longer than this after a mutation, or a run would be about copying memory.
MAX_CASE: Final = 8192


def random_bytes(source: Random) -> bytes:
    """Any bytes, or only the ones that a line of ours has."""
    length = source.choice((0, 1, 2, 10, 50, 200, 1000))
    if source.random() < 0.5:
        return source.randbytes(length)
    return bytes(source.choices(b'\n\r <>.=+/0123456789abcdefABCXYZ_-{}[]":,', k=length))


def mutate(source: Random, seed: bytes, others: Sequence[bytes]) -> bytes:
    """*seed* with one to four things done to it."""
    data = seed
    for _ in range(source.randint(1, 4)):
        data = _once(source, data, others)[:MAX_CASE]
    return data


def _once(source: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = source.randint(0, len(data))
    to = min(len(data), at + source.choice((1, 1, 2, 8, 64, 512)))
    match source.randrange(8):
        case 0:
            return data[:at] + bytes(byte ^ (1 << source.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 :]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:at] + source.choice(TOKENS) + data[at:]
        case 3:
            return data[:to] + data[at:to] * source.randint(1, 5) + data[to:]
        case 4:
            return data[:at]
        case 5:
            other = source.choice(others)
            return data[:at] + other[source.randint(0, len(other)) :]
        case 6:
            return data[:at] + source.randbytes(to - at) + data[to:]
        case _:
            return data[:at] + source.choice(TOKENS) + data[to:]
