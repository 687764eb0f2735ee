# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one of QEMU's arguments for a stubdomain: a word for programs, a sentence and a cure for people."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """*number* is the argument's, counted from 1; the texts are printable."""

    word: str
    number: int
    sentence: str
    cure: str

    def __str__(self) -> str:
        return f"argument {self.number}: {self.sentence} [{self.word}]; cure: {self.cure}"
