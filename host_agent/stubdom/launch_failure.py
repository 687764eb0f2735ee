# SPDX-License-Identifier: Apache-2.0
"""What stands in the launcher's way: a sentence for QEMU's log, and an exit status for each kind."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Exit statuses of the launcher's own. QEMU uses 0 and 1; from 128 on they are signals'."""

    XENSTORE = 64
    ORDERS = 65
    ARGUMENTS = 66
    CONSOLE = 67
    PROGRAM = 68
    DIRECTORY = 69
    SILENT = 70
    VCHAN = 71
    RESTORE = 72


MEANINGS = {
    Status.XENSTORE: "xenstore cannot be asked, or does not let us read or write",
    Status.ORDERS: "xenstore does not say whose device model this domain is",
    Status.ARGUMENTS: "there are no arguments for QEMU, or they cannot be used",
    Status.CONSOLE: "console 1 or 2 cannot be opened, or is no terminal",
    Status.PROGRAM: "QEMU or vchan-socket-proxy is missing, or cannot be started",
    Status.DIRECTORY: "the directory of QEMU's socket cannot be used, or another launcher has it",
    Status.SILENT: "QEMU runs and does not answer",
    Status.VCHAN: "vchan-socket-proxy does not serve",
    Status.RESTORE: "the state to restore did not come, or not all of it",
}


class LaunchError(Exception):
    """There is no device model, or none any more, because of what the sentence says."""

    def __init__(self, status: Status, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
