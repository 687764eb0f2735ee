# SPDX-License-Identifier: Apache-2.0
"""Which domains the hypervisor has paused, by `xl list`, which alone tells; without xl, nothing is known of it."""

from __future__ import annotations

import subprocess
from typing import Final

#: Of ten thousand domains' lines.
_SECONDS: Final = 10.0
#: Name, domid, memory, virtual CPUs, and six letters or dashes: running, blocked, paused, shut down, crashed, dying.
_STATE: Final = -2
_PAUSED: Final = 2


def paused() -> dict[str, str]:
    """The lines of the domains that are paused, by domid; none where xl cannot say."""
    try:
        said = subprocess.run(["xl", "list"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = [line.split() for line in said.stdout.decode("utf-8", "replace").splitlines()[1:]]
    return {words[-5]: " ".join(words) for words in lines if len(words) >= 6 and words[_STATE][_PAUSED : _PAUSED + 1] == "p"}
