# SPDX-License-Identifier: Apache-2.0
"""One QEMU's VM into another one, or into a file and out of it, by the plainest QMP: what becomes of the state beside it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qemu.bus_helpers import Beside
    from tests.qemu.machines import Running

#: A migration of an empty machine takes a moment; one that waits for a slow helper, half a minute.
_SECONDS = 120.0
#: QEMU 7.2's newest, which 10 knows, too.
_MACHINE = ("-machine", "pc-i440fx-7.2")


class Ends(NamedTuple):
    """How the source says that it ended, and the destination: its run state, or "exit" and what it said."""

    source: str
    destination: str
    said: str


def with_vmstate(beside: Beside, ids: str | None = None) -> tuple[str, ...]:
    """The arguments of a machine whose helpers' state travels; *ids* is its id-list."""
    listed = "" if ids is None else f",id-list={ids.replace(',', ',,')}"
    return (*_MACHINE, "-S", "-object", f"dbus-vmstate,id=vmstate,addr={beside.address}{listed}")


def return_path(running: Running) -> None:
    """Both ends say how it went."""
    with running.monitor() as monitor:
        monitor.execute("migrate-set-capabilities", capabilities=[{"capability": "return-path", "state": True}])


def save(source: Running, file: Path) -> str:
    """Send the machine of *source* into *file*; how the source says that it ended."""
    _send(source, f"exec:cat > {file}")
    return ended(source)


def migrate(source: Running, destination: Running, socket: Path, *, stay: bool = False) -> Ends:
    """Send the machine of *source* to *destination*, which was started with ``-incoming defer`` and, with *stay*, survives."""
    arguments: dict[str, Any] = {"uri": f"unix:{socket}"} | ({"exit-on-error": False} if stay else {})
    with destination.monitor() as monitor:
        monitor.execute("migrate-incoming", **arguments)
    _send(source, f"unix:{socket}")
    at_source = ended(source)
    return Ends(at_source, arrived(destination), destination.said())


def ended(source: Running) -> str:
    """How the source says that its migration ended."""
    deadline = time.monotonic() + _SECONDS
    with source.monitor() as monitor:
        while True:
            status = str(monitor.execute("query-migrate").get("status"))
            if status in ("completed", "failed", "cancelled"):
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.05)


def arrived(destination: Running) -> str:
    """What has become of the destination, once it does not wait any more."""
    deadline = time.monotonic() + _SECONDS
    while destination.alive():
        assert time.monotonic() < deadline, destination.said()
        try:
            destination.await_monitor()
            with destination.monitor() as monitor:
                status = str(monitor.execute("query-status")["status"])
                incoming = monitor.execute("query-migrate").get("status")
        except (AssertionError, EOFError, OSError):  # it has ended, or is just ending
            destination.wait()
            break
        if status not in ("inmigrate", "finish-migrate") or incoming == "failed":
            return status
        time.sleep(0.05)
    return "exit"


def _send(source: Running, uri: str) -> None:
    with source.monitor() as monitor:
        monitor.execute("migrate", uri=uri)
