# SPDX-License-Identifier: Apache-2.0
"""The command `pv-stubdom-launch`, for the inside of a Linux stubdomain: from the toolstack's orders to QEMU's exit status.

Python's own library is all that it needs, and of this project the files beside it whose names begin with its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from host_agent.stubdom.launch_arguments import QEMUS, parsed
from host_agent.stubdom.launch_children import exit_status, started
from host_agent.stubdom.launch_command import Descriptors, command, wants_restore
from host_agent.stubdom.launch_consoles import opened_to_restore, opened_to_save
from host_agent.stubdom.launch_directory import SOCKET, held
from host_agent.stubdom.launch_failure import LaunchError, Status
from host_agent.stubdom.launch_monitor import Monitor
from host_agent.stubdom.launch_orders import orders
from host_agent.stubdom.launch_power import power_off
from host_agent.stubdom.launch_proxy import PROGRAM as PROXY
from host_agent.stubdom.launch_proxy import Proxy
from host_agent.stubdom.launch_proxy import found as found_proxy
from host_agent.stubdom.launch_ready import VCHAN, Start, forget, make_ready
from host_agent.stubdom.launch_show import word
from host_agent.stubdom.launch_signals import Signals
from host_agent.stubdom.launch_watch import QemuEnded, Watch
from host_agent.stubdom.launch_xenstore import Xenstore

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence


class Open(NamedTuple):
    """What QEMU inherits: the lock, what its arguments name, and, as the other end of one of those, our monitor."""

    lock: int
    named: Descriptors
    monitor: Monitor

    @property
    def inherited(self) -> list[int]:
        """All of the descriptors."""
        return [each for each in (self.lock, *self.named) if each is not None]


def main(argv: Sequence[str] | None = None) -> int:
    """Be the launcher; return its exit status."""
    arguments = parsed(argv)
    try:
        return _launch(arguments)
    except LaunchError as exc:
        _say(str(exc))
        return exc.status
    finally:
        if arguments.poweroff:
            power_off()


def _launch(arguments: Namespace) -> int:
    with ExitStack() as stack:
        store = Xenstore.open(arguments.xenstore)
        stack.callback(store.close)
        given = orders(store, arguments.domid)
        qemu, proxy = _program(arguments.qemu, *QEMUS), _program(arguments.vchan_socket_proxy or found_proxy(), PROXY)
        restoring = wants_restore(given.arguments)
        opened = _open(arguments, stack, restoring=restoring)
        line = command(qemu, given.arguments, opened.named, arguments.directory / SOCKET)
        if arguments.dry_run:
            print(" ".join(map(word, line)))
            return 0
        forget(given.home, store)
        with Signals() as signals:
            child = started(line, opened.inherited)
            _say(f"QEMU is process {child.pid}, the device model of domain {given.target} in domain {given.stubdomain}")
            opened.monitor.handed_over()
            served = Proxy(proxy, f"{given.home}/{VCHAN}", arguments.directory / SOCKET, _say)
            stack.callback(served.end)
            watch = Watch(signals, child, arguments.end_timeout, _say)
            times = arguments.start_timeout, arguments.vchan_timeout, arguments.restore_timeout
            return _live(Start(given.home, store, watch, opened.monitor, served, restoring, *times))


def _live(start: Start) -> int:
    """QEMU's exit status in the end; raise `LaunchError`, with QEMU ended, where it does not become a device model."""
    try:
        _be_ready(start)
        _await_end(start)
    except QemuEnded as exc:
        _say(str(exc))
        return exit_status(exc.returncode)
    finally:
        with suppress(LaunchError):  # xenstored is gone, and with it all that it said
            forget(start.home, start.store)


def _be_ready(start: Start) -> None:
    try:
        make_ready(start)
    except LaunchError:
        start.watch.end()
        with suppress(QemuEnded):
            _await_end(start)
        raise
    _say("ready")


def _await_end(start: Start) -> NoReturn:
    """Until `QemuEnded`. The monitor stays open: QEMU 7.2 forgets its sets of descriptors when nobody is connected to any."""
    while True:
        if start.watch.wait(descriptor=start.monitor.descriptor):
            start.monitor.taken()


def _open(arguments: Namespace, stack: ExitStack, *, restoring: bool) -> Open:
    """What QEMU is to inherit, until *stack* ends; for a rehearsal the same numbers with nothing behind them."""

    def opened(make: Callable[[], int]) -> int:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if arguments.dry_run else make()
        stack.callback(os.close, descriptor)
        return descriptor

    lock = opened(lambda: held(arguments.directory, arguments.end_timeout))
    save = opened(lambda: opened_to_save(arguments.save_console))
    restore = opened(lambda: opened_to_restore(arguments.restore_console)) if restoring else None
    monitor = Monitor()
    stack.callback(monitor.close)
    return Open(lock, Descriptors(save, monitor.qemus.fileno(), restore), monitor)


def _program(asked: Path | str | None, *names: str) -> Path:
    """The one that was *asked* for, or the first of *names* that there is; raise `LaunchError`."""
    wanted = [str(asked)] if asked else names
    for name in wanted:
        if found := shutil.which(name):
            return Path(found)
    cure = "install it, or name it by the option"
    raise LaunchError(Status.PROGRAM, f"{' or '.join(wanted)}: there is no such program; cure: {cure}")


def _say(sentence: str) -> None:
    """On console 0, among what QEMU says."""
    print(f"pv-stubdom-launch: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
