# SPDX-License-Identifier: Apache-2.0
"""Why an item cannot be applied: a word for programs, a sentence for people, and the end of what a command printed."""

from __future__ import annotations

import errno
from typing import Final

from pv_channel.messages import MAX_DETAIL, MAX_LOG_LINE, MAX_LOG_LINES
from pv_channel.text import printable

#: The word for each error that a file operation meets on a healthy machine; any other is ``io-error``.
_REASONS: Final = {
    errno.EROFS: "read-only",
    errno.ENOSPC: "no-space",
    errno.EDQUOT: "no-space",
    errno.ELOOP: "symlink",
    errno.EACCES: "not-permitted",
    errno.EPERM: "not-permitted",
    errno.EISDIR: "not-a-file",
    errno.ENOTDIR: "not-a-directory",
    errno.EFBIG: "too-large",
}


class ItemError(Exception):
    """An item cannot be applied. *reason* is one of PROTOCOL.md's words, *detail* a sentence, *log* lines of output."""

    def __init__(self, reason: str, detail: str, output: bytes = b"") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = printable(detail, MAX_DETAIL)
        self.log = log_tail(output)


def of_os_error(exc: OSError, doing: str) -> ItemError:
    """What *exc*, met while *doing* something, means for the item."""
    reason = _REASONS.get(exc.errno or 0, "io-error")
    problem = "a symbolic link stands there, which is not followed" if reason == "symlink" else exc.strerror or str(exc)
    return ItemError(reason, f"{doing}: {problem}")


def log_tail(output: bytes) -> list[str]:
    """The last lines of *output* that are not blank, printable and bounded."""
    lines = [line for line in output.splitlines() if line.strip()]
    return [printable(line, MAX_LOG_LINE) for line in lines[-MAX_LOG_LINES:]]
