# SPDX-License-Identifier: Apache-2.0
"""The arguments of `pv-stubdom-launch`, and its help, which says what each exit status means."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent import VERSION
from host_agent.stubdom.console_map import RESTORE, SAVE, tty_of
from host_agent.stubdom.launch_failure import MEANINGS
from host_agent.stubdom.launch_orders import DOMAINS
from host_agent.stubdom.launch_power import is_init
from host_agent.stubdom.launch_proxy import DIRECTORIES, PROGRAM
from host_agent.stubdom.launch_xenstore import DEVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Xen's own stubdomains have the first.
QEMUS: Final = ("qemu-system-i386", "qemu-system-x86_64")
DIRECTORY: Final = Path("/run/pv-stubdom-launch")
#: Both take a second or two; in an emulated machine they take longer.
START_SECONDS: Final = 60.0
VCHAN_SECONDS: Final = 60.0
RESTORE_SECONDS: Final = 600.0
END_SECONDS: Final = 10.0

_DESCRIPTION: Final = """\
Be the inside of a Linux stubdomain: start QEMU with the arguments that the toolstack has put into xenstore, connect its state to
consoles 1 (save) and 2 (restore) and its QMP to the toolstack by vchan, say when it runs, pass SIGTERM on to it, and end as it
ends. It stays in the foreground; what it and QEMU have to say goes to standard error, console 0 of a stubdomain: QEMU's log."""


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; ends the program with status 2 where they are wrong."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.poweroff and not is_init():
        parser.error("--poweroff is for process 1 of a stubdomain")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pv-stubdom-launch", description=_DESCRIPTION, epilog=_epilog(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"pv-stubdom-launch {VERSION}")
    rehearse = "print QEMU's command line, quoted for bash; start and change nothing"
    parser.add_argument("--dry-run", action="store_true", help=rehearse)
    end = "as process 1: switch the domain off in the end, whatever happened"
    parser.add_argument("--poweroff", action="store_true", help=end)
    _programs(parser)
    _places(parser)
    _times(parser)
    return parser


def _programs(parser: argparse.ArgumentParser) -> None:
    qemus = " or ".join(QEMUS)
    parser.add_argument("--qemu", metavar="PROGRAM", help=f"the QEMU to start (default: {qemus} in $PATH)")
    where = f"the program that serves QMP (default: {PROGRAM} in $PATH or {DIRECTORIES[0]} or the like)"
    parser.add_argument("--vchan-socket-proxy", metavar="PROGRAM", help=where)


def _places(parser: argparse.ArgumentParser) -> None:
    store = "xenstore: the kernel's device, or a daemon's socket (default: %(default)s)"
    parser.add_argument("--xenstore", type=Path, default=DEVICE, metavar="PATH", help=store)
    domid = "the domain to be in (default: as xenstore says; needed where PATH is a daemon's socket, which takes us for dom0)"
    parser.add_argument("--domid", type=domain_id, metavar="N", help=domid)
    save, restore = tty_of(SAVE), tty_of(RESTORE)
    parser.add_argument("--save-console", type=Path, default=save, metavar="TTY", help="console 1 (default: %(default)s)")
    parser.add_argument("--restore-console", type=Path, default=restore, metavar="TTY", help="console 2 (default: %(default)s)")
    directory = "where QEMU's socket is, for root only (default: %(default)s)"
    parser.add_argument("--directory", type=Path, default=DIRECTORY, metavar="DIR", help=directory)


def _times(parser: argparse.ArgumentParser) -> None:
    for name, default, what in (
        ("--start-timeout", START_SECONDS, "for QEMU to answer"),
        ("--vchan-timeout", VCHAN_SECONDS, "for its QMP to be served after that"),
        ("--restore-timeout", RESTORE_SECONDS, "for the whole state to come through console 2"),
        ("--end-timeout", END_SECONDS, "for QEMU to end when told to; then it is killed"),
    ):
        parser.add_argument(name, type=seconds, default=default, metavar="S", help=f"seconds {what} (default: %(default)g)")


def _epilog() -> str:
    rows = [f"  {status.value}   {meaning}" for status, meaning in MEANINGS.items()]
    return "\n".join(["exit status: QEMU's own, 128 and the number where a signal ended it; 2 wrong usage; or", *rows])


def seconds(text: str) -> float:
    """A time that passes."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def domain_id(text: str) -> int:
    """Of no special domain."""
    if not (text.isascii() and text.isdigit()) or int(text) not in DOMAINS:
        raise argparse.ArgumentTypeError(f"{text} is no domain id")
    return int(text)
