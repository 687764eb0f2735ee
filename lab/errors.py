# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the lab, and whose fault it is."""

from __future__ import annotations


class LabError(Exception):
    """The lab, or what was asked of it, is wrong; the message says what was done and what was printed."""


class EmulatorFault(Exception):  # noqa: N818  # a fault is what it is, and nobody's error
    """The emulated machine itself failed (QEMU ended, a kernel faulted): says nothing about the code under test."""


#: What a kernel prints when QEMU's emulation, not the software in it, went wrong. Seen with QEMU 7.2, a few boots in a hundred.
FAULT_MARKS = (
    "Kernel panic - not syncing",
    "systemd[1]: Freezing execution",
    "Panic on CPU",
    "FATAL TRAP",
    "invalid opcode",
    "general protection",
    "double fault",
    "segfault at",
    "unable to handle page fault",
)


def fault_line(log: str) -> str | None:
    """Return the first line of *log* that only a failing emulator prints, or None."""
    for line in log.splitlines():
        if any(mark in line for mark in FAULT_MARKS):
            return line.strip()
    return None


def tail(text: str, lines: int = 25) -> str:
    """Return the last *lines* lines of *text*, for the end of an error message."""
    return "\n".join(text.rstrip().splitlines()[-lines:])
