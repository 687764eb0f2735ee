# SPDX-License-Identifier: Apache-2.0
"""Read the vectors: text files of `key: value` lines, a blank line between two cases, `#` before a remark.

A key that ends in `-hex` has bytes in hexadecimal, `-base64` bytes in base64; any other value is the text behind ": ".
`repeat: N` at the front of a case means that its `*-repeated` value stands N times in a row.
"""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Final

VECTORS: Final = Path(__file__).parent / "vectors"


class Case(dict[str, str]):
    """One block of a vector file."""

    def raw(self, name: str) -> bytes:
        """The bytes under *name*-hex."""
        return bytes.fromhex(self[f"{name}-hex"])

    def base64(self, name: str) -> bytes:
        """The bytes under *name*-base64."""
        return b64decode(self[f"{name}-base64"], validate=True)

    def __str__(self) -> str:
        return self.get("case", "unnamed")


def read(name: str) -> list[Case]:
    """The cases of vectors/*name*.txt."""
    cases: list[Case] = []
    for block in (VECTORS / f"{name}.txt").read_text("ascii").split("\n\n"):
        fields = [line for line in block.splitlines() if line and not line.startswith("#")]
        if fields:
            split = [line.split(": ", 1) if ": " in line else [line.rstrip(":"), ""] for line in fields]
            names = [name for name, _ in split]
            if len(set(names)) != len(names):
                raise ValueError(f"{name}.txt: a case with two '{max(names, key=names.count)}'")
            cases.append(Case((name, value) for name, value in split))
    return cases
