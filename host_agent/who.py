# SPDX-License-Identifier: Apache-2.0
"""Who has something done, for the audit trail: the person who logged in, whom sudo or su does not hide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What the service itself does, by what the documents say.
SERVICE: Final = "pv-host-agent serve"
_LOGIN_UID: Final = Path("/proc/self/loginuid")
#: The kernel's word for a process that nobody's login started: a daemon's, and everybody's where audit is not built in.
_NOBODY: Final = 2**32 - 1


def operator(login_uid: Path = _LOGIN_UID, environment: Mapping[str, str] = os.environ) -> str:
    """The user of this process as ``name (uid 1000)``: who logged in, else who called sudo, else whose process it is."""
    return _named(_logged_in(login_uid), environment)


def _logged_in(login_uid: Path) -> int | None:
    """Who logged in, by the kernel (pam_loginuid(8)), which no sudo changes; None where that is not known."""
    try:
        uid = int(login_uid.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return None if uid == _NOBODY else uid


def _named(uid: int | None, environment: Mapping[str, str]) -> str:
    import pwd

    called = environment.get("SUDO_UID", "")
    if uid is None:
        # Only root's own environment is a witness, and sudo(8) writes it there.
        uid = int(called) if os.geteuid() == 0 and called.isascii() and called.isdigit() else os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"
    return f"{printable(name)} (uid {uid})"
