# SPDX-License-Identifier: Apache-2.0
"""What to do when a QEMU says why a migration cannot be, or failed: its own words, and a cure for each."""

from __future__ import annotations

import re
from typing import Final

from host_agent.qemu.migration_outcome import Reason
from pv_channel.text import printable

_MAX_WORDS: Final = 400
_SAME: Final = (
    "both QEMUs need the same machine type, memory and devices, and every program that keeps state of its own;"
    " the destination's log names what it misses"
)
#: The first that is found in QEMU's words counts.
_CURES: Final = tuple(
    (re.compile(words), cure)
    for words, cure in (
        (r"valid migration protocol|unknown migration protocol", "this QEMU has no such transport; take unix:, tcp: or exec:"),
        (r"No space left on device", "make room there, and say it again"),
        (r"Failed to connect|Connection refused|Unable to connect", (
            "have the destination's QEMU wait for it first: started with '-incoming defer', then 'pv-host-agent incoming'"
        )),
        (r"Address already in use|Failed to (bind|find an available port)|Cannot assign requested address", (
            "another address or port, or end what listens there"
        )),
        (r"has already been started|already been told", "end that QEMU, and start it anew with '-incoming defer'"),
        (r"-incoming' was not specified", "start that QEMU with '-incoming defer'"),
        (r"There's a migration process in progress", "wait until it is over, or end it: QMP's migrate_cancel"),
        (r"[Ss]ibling indicated error|load of migration failed|Unknown savevm section|[Ss]ize mismatch", _SAME),
        (r"Broken pipe|Connection reset|Bad file descriptor|Unable to write to|Channel error|Input/output error", (
            f"the other end hung up: {_SAME}"
        )),
        (r"[Pp]ermission denied", "QEMU's user needs that permission"),
        (r"No such file or directory", "the directory has to be there, and QEMU's user may enter it"),
        (r"blocked|disabled|not (migratable|supported)|no support", "take away from the VM what QEMU names"),
        (r'Failed to get "write" lock', "end the other QEMU, which has the disk"),
    )
)  # fmt: skip
_ELSE: Final = "QEMU's log may say more"
#: What a destination says that got something else than it can take.
LOADING_FAILED: Final = "load of migration failed"


def of_words(words: str) -> Reason:
    """The reason that QEMU gives by these *words*; none where it gives none."""
    return Reason(printable(words, _MAX_WORDS), cure_of(words)) if words else Reason()


def cure_of(words: str) -> str:
    """What to do about these *words* of QEMU's."""
    return next((cure for pattern, cure in _CURES if pattern.search(words)), _ELSE)
