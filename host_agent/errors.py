# SPDX-License-Identifier: Apache-2.0
"""What the operator has to hear about: one sentence that names the file or the VM, and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pv_channel.text import printable

if TYPE_CHECKING:
    from pathlib import Path


def shown(path: Path | str) -> str:
    """A path as it stands in a message."""
    return printable(path, 300)


class HostError(Exception):
    """Something outside this program stands in the way; the message is for the operator."""


class BadFile(HostError):  # noqa: N818 -- it says what the file is
    """A file that cannot be used as it is: a document, a key, a directory that others may write to."""


class Unreachable(HostError):  # noqa: N818 -- it says what the VM is
    """There is no byte stream to a VM now; trying again later may help. *word* tells the kinds apart."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


class LedgerTrouble(HostError):  # noqa: N818 -- trouble is the word
    """The ledger cannot be read or written; what it did not record was not sent."""


class LedgerDamaged(LedgerTrouble):
    """The ledger's file is not what was written into it; *why* is what there is to say of that."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}; cure: start or restart 'pv-host-agent serve', which sets it aside and begins a new one,"
            " or move the file and what begins with its name away yourself"
        )
        self.why = why
