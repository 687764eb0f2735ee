# SPDX-License-Identifier: Apache-2.0
"""From a QEMU that was just started to one that the toolstack may take for running, and what the toolstack is told on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.stubdom.launch_failure import LaunchError, Status

if TYPE_CHECKING:
    from host_agent.stubdom.launch_monitor import Monitor
    from host_agent.stubdom.launch_proxy import Proxy
    from host_agent.stubdom.launch_watch import Watch
    from host_agent.stubdom.launch_xenstore import Xenstore

#: What QEMU writes, too, where it runs with Xen's accelerator.
RUNNING: Final = b"running"
#: At RESTORE: console 2 is raw and QEMU reads it.
READY: Final = b"ready"
#: Below the device model's node.
STATE, RESTORE, VCHAN = "state", "restore", "qmp-vchan"
_BETWEEN_SECONDS: Final = 0.1


class Start(NamedTuple):
    """A start: the node *home* of the device model, what is at work, and how long it may take.

    *restoring* says that state is to come through console 2 first.
    """

    home: str
    store: Xenstore
    watch: Watch
    monitor: Monitor
    proxy: Proxy
    restoring: bool
    start_seconds: float
    vchan_seconds: float
    restore_seconds: float


def forget(home: str, store: Xenstore) -> None:
    """Take away what an earlier device model said of itself: it is not so, or not so yet."""
    for name in (STATE, RESTORE, VCHAN):
        store.remove(f"{home}/{name}")


def make_ready(start: Start) -> None:
    """Have QEMU answer, its socket served, its state restored where there is one to come, and the toolstack told in the end.

    Raise `LaunchError` where any of that does not come about, `QemuEnded` where QEMU ends first.
    """
    _await_greeting(start, time.monotonic() + start.start_seconds)
    start.watch.proxy = start.proxy
    _await_vchan(start, time.monotonic() + start.vchan_seconds)
    if start.restoring:
        start.store.write(f"{start.home}/{RESTORE}", READY)
        _await_restored(start, time.monotonic() + start.restore_seconds)
        start.store.remove(f"{start.home}/{RESTORE}")
    if start.store.read(f"{start.home}/{STATE}") != RUNNING:
        start.store.write(f"{start.home}/{STATE}", RUNNING)


def _await_greeting(start: Start, deadline: float) -> None:
    while not any("QMP" in said for said in start.monitor.taken()):
        if time.monotonic() >= deadline:
            raise LaunchError(Status.SILENT, f"QEMU did not answer within {start.start_seconds:g} s; it is ended")
        start.watch.wait(deadline, start.monitor.descriptor)


def _await_vchan(start: Start, deadline: float) -> None:
    while not start.proxy.serves(start.store):
        if time.monotonic() >= deadline:
            cure = "load the kernel modules xen-gntalloc, xen-gntdev and xen-evtchn"
            why = f"not served after {start.vchan_seconds:g} s; QEMU is ended"
            raise LaunchError(Status.VCHAN, f"{start.home}/{VCHAN}: {why}; cure: {cure}")
        start.watch.wait(min(deadline, time.monotonic() + _BETWEEN_SECONDS))


def _await_restored(start: Start, deadline: float) -> None:
    """QEMU is in the state ``inmigrate`` until it has all of it."""
    start.monitor.ask("qmp_capabilities")
    while True:
        start.monitor.ask("query-status")
        start.watch.wait(time.monotonic() + _BETWEEN_SECONDS, start.monitor.descriptor)
        if any(_arrived(said.get("return")) for said in start.monitor.taken()):
            return
        if time.monotonic() >= deadline:
            why = f"the state to restore was not complete after {start.restore_seconds:g} s; QEMU is ended"
            raise LaunchError(Status.RESTORE, f"console 2: {why}")


def _arrived(returned: object) -> bool:
    return isinstance(returned, dict) and isinstance(status := returned.get("status"), str) and status != "inmigrate"
