# SPDX-License-Identifier: Apache-2.0
"""Descriptors 0, 1 and 2 are there, whoever started us: what stands in for a missing one takes and gives nothing."""

from __future__ import annotations

import os
import sys


def complete() -> None:
    """Open /dev/null where one is closed, before a socket or the ledger gets its number and is printed into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, and that is this one
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
