# SPDX-License-Identifier: Apache-2.0
"""Measured of the service's own process: its version, what it uses of the machine, what it logs, how late its loop is.

What prometheus_client has for this says nothing where /proc has processes alone, as systemd makes it for this service; and in a
file that node exporter reads, its names would be node exporter's own.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import InfoMetricFamily

from host_agent import VERSION
from host_agent.metrics.family import PREFIX, counter, counters, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from host_agent.durations import Durations
    from host_agent.metrics.log_lines import LogLines

_DESCRIPTORS: Final = Path("/proc/self/fd")
_MEMORY: Final = Path("/proc/self/statm")


class OfProcess:
    """Of this process, which has begun now."""

    def __init__(self, lag: Durations, lines: LogLines) -> None:
        self._began = time.time()
        self._lag, self._lines = lag, lines

    def __call__(self) -> Iterator[Metric]:
        """As it is now."""
        version = {"version": VERSION, "python": platform.python_version()}
        yield InfoMetricFamily(f"{PREFIX}build", "This version of pv-host-agent, and of its Python.", value=version)
        yield gauge("start_time_seconds", "When the service started.", self._began)
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield counter("cpu_seconds", "Time on a CPU, of the user's and the system's.", used.ru_utime + used.ru_stime)
        yield gauge("resident_memory_bytes", "Memory that is resident.", _resident())
        yield gauge("open_fds", "Descriptors that are open.", _descriptors())
        yield gauge("max_fds", "Descriptors that may be.", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        yield histogram("loop_lag_seconds", "How much later than it should the event loop does what is due.", self._lag)
        yield counters("log_lines", "Lines that were logged.", "level", self._lines.by_level)


def _descriptors() -> int:
    """How many are open: the directory's size from Linux 6.2 on, and before that 0, so that they have to be listed."""
    return _DESCRIPTORS.stat().st_size or len(os.listdir(_DESCRIPTORS)) - 1  # noqa: PTH208 -- there are thousands


def _resident() -> int:
    return int(_MEMORY.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
