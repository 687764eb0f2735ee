# SPDX-License-Identifier: Apache-2.0
"""QEMU's life, seen from its launcher: whoever waits for anything waits here, and meanwhile the children are looked after."""

from __future__ import annotations

import select
import time
from math import ceil, inf
from typing import TYPE_CHECKING

from host_agent.stubdom.launch_children import outcome, take_statuses
from host_agent.stubdom.launch_signals import ENDING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from host_agent.stubdom.launch_proxy import Proxy
    from host_agent.stubdom.launch_signals import Signals


class QemuEnded(Exception):  # noqa: N818 -- it says what happened
    """QEMU is no more, with this *returncode*, of which the message tells."""

    def __init__(self, pid: int, returncode: int) -> None:
        super().__init__(f"QEMU (process {pid}) {outcome(returncode)}")
        self.returncode = returncode


class Watch:
    """Of one *qemu*: told to end by one of *signals* it is asked to, and killed where it has not after *end_seconds*."""

    def __init__(self, signals: Signals, qemu: subprocess.Popen[bytes], end_seconds: float, say: Callable[[str], None]) -> None:
        self._signals, self._qemu, self._say = signals, qemu, say
        self._end_seconds, self._kill_at, self._ending = end_seconds, inf, False
        #: Looked after from the moment when it stands here.
        self.proxy: Proxy | None = None

    def wait(self, until: float = inf, descriptor: int | None = None) -> bool:
        """Return when *descriptor* can be read (True), or *until* it is late, or sooner; raise `QemuEnded` or `LaunchError`."""
        self._tend()
        poll = select.poll()
        poll.register(self._signals.descriptor, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        soonest = min(until, self._kill_at, inf if self.proxy is None or self._ending else self.proxy.due)
        ready = poll.poll(None if soonest == inf else max(ceil((soonest - time.monotonic()) * 1000), 0))
        self._tend()
        return any(each == descriptor for each, _ in ready)

    def end(self) -> None:
        """Ask QEMU to end, once; `wait` tells when it has."""
        if not self._ending:
            self._ending, self._kill_at = True, time.monotonic() + self._end_seconds
            self._qemu.terminate()

    def _tend(self) -> None:
        came = self._signals.taken()  # before the statuses: whoever ends after those were taken is heard of again
        take_statuses([self._qemu, *([] if self.proxy is None else self.proxy.children)])
        if self._qemu.returncode is not None:
            raise QemuEnded(self._qemu.pid, self._qemu.returncode)
        now = time.monotonic()
        if ENDING & came:
            self.end()
        if now >= self._kill_at:
            self._kill_at = inf
            self._say(f"QEMU has not ended within {self._end_seconds:g} s; it is killed")
            self._qemu.kill()
        if self.proxy is not None and not self._ending:
            self.proxy.tend(now)
