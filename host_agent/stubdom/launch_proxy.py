# SPDX-License-Identifier: Apache-2.0
"""The real vchan-socket-proxy, which serves QEMU's socket to the toolstack: started again, ever more rarely, whenever it ends."""

from __future__ import annotations

import os
import shutil
from glob import glob
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.stubdom.launch_children import ended, outcome, started
from host_agent.stubdom.launch_failure import LaunchError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from host_agent.stubdom.launch_xenstore import Xenstore

PROGRAM: Final = "vchan-socket-proxy"
#: Where distributions have Xen's programs, beside $PATH.
DIRECTORIES: Final = ("/usr/lib/xen-*/bin", "/usr/libexec/xen/bin", "/usr/lib/xen/bin", "/usr/local/lib/xen/bin")
#: Before it is started again: after the first end, and at most.
FIRST_SECONDS: Final = 0.1
MAX_SECONDS: Final = 5.0
#: One that lived so long did its work, as one that ended with status 0.
LIVED_SECONDS: Final = 10.0
#: It has nothing to save.
END_SECONDS: Final = 2.0


def found() -> Path | None:
    """The program on this machine, of the newest Xen where there are several."""
    directories = [path for pattern in DIRECTORIES for path in sorted(glob(pattern), reverse=True)]  # noqa: PTH207 -- from the root
    there = shutil.which(PROGRAM) or shutil.which(PROGRAM, path=os.pathsep.join(directories))
    return None if there is None else Path(there)


class Proxy:
    """It, for the socket *qmp*, at the node *node* in xenstore. `due` is when it is to be started next."""

    def __init__(self, program: Path, node: str, qmp: Path, say: Callable[[str], None]) -> None:
        self._command = [os.fsencode(word) for word in (program, "--mode=server", "0", node, qmp)]
        self._node, self._say = node, say
        self._child: subprocess.Popen[bytes] | None = None
        self._since, self._back_off = 0.0, FIRST_SECONDS
        self.due = 0.0

    @property
    def children(self) -> list[subprocess.Popen[bytes]]:
        """The process, while there is one."""
        return [] if self._child is None else [self._child]

    def tend(self, now: float) -> None:
        """Start it where it is due; note its end. Raise `LaunchError` where it cannot be started at all."""
        if self._child is not None and self._child.returncode is not None:
            self._ended(now, self._child.returncode)
        if self._child is None and now >= self.due:
            self._start(now)

    def serves(self, store: Xenstore) -> bool:
        """Whether it has announced its end of the vchan since the launcher began (libxenvchan writes this node last)."""
        return store.read(f"{self._node}/event-channel") is not None

    def end(self) -> None:
        """Stop it."""
        for child in self.children:
            ended(child, END_SECONDS)

    def _start(self, now: float) -> None:
        try:
            self._child, self._since, self.due = started(self._command), now, inf
        except LaunchError as exc:
            if not self._since:
                raise
            self._again(now, str(exc))  # out of memory, say: no reason to end a QEMU that runs

    def _ended(self, now: float, returncode: int) -> None:
        self._child = None
        if returncode == 0 or now - self._since >= LIVED_SECONDS:
            self._back_off = FIRST_SECONDS
        self._again(now, f"{PROGRAM} {outcome(returncode)}")

    def _again(self, now: float, why: str) -> None:
        self._say(f"{why}; it is started again in {self._back_off:.1f} s")
        self.due = now + self._back_off
        self._back_off = min(self._back_off * 2, MAX_SECONDS)
