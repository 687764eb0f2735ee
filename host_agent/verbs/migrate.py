# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent migrate`: a VM moves from one QEMU to another, or into a file."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.verbs import options
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.qemu.migration_outcome import Outcome

#: What a migration goes to or comes from, for help.
ROUTE: Final = "a uri of QEMU's (unix:PATH, tcp:HOST:PORT, exec:COMMAND, file:PATH), or @FILE with its channels as JSON"

_SIZE: Final = re.compile(r"([0-9]{1,12})([KMGkmg]?)", re.ASCII)
#: QEMU's own limit.
_MAX_DOWNTIME: Final = 2_000_000
_LIBXLS: Final = (
    "{0}: libxl moves Xen domains itself: xl migrate {0} HOST, or xl save and xl restore;"
    " for a QEMU of one's own say --qmp SOCKET"
)


def describe(verb: argparse.ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Move the VM of a QEMU of one's own to another QEMU, which waits for it, or into a file, and say where it runs then. With"
        " --incoming-qmp both ends are prepared and looked at, and the other QEMU only needs '-incoming defer'; else say"
        " 'pv-host-agent incoming' there first. When it fails, or is ended by Ctrl-C or --timeout, the VM runs on at the source."
        " Xen domains are libxl's to move, by xl migrate."
    )
    verb.add_argument("vm", nargs="?", metavar="VM", help="what to call it (default: what its QEMU calls it)")
    verb.add_argument("--qmp", type=Path, metavar="SOCKET", help="the QMP socket of the QEMU that has it")
    verb.add_argument("--to", required=True, metavar="WHERE", help=ROUTE)
    other = "the QMP socket of the QEMU that is to have it, where that can be reached from here"
    verb.add_argument("--incoming-qmp", type=Path, metavar="SOCKET", help=other)
    listens = "what the other QEMU listens on, with --incoming-qmp (default: as --to)"
    verb.add_argument("--incoming-from", metavar="WHERE", help=listens)
    mode(verb)
    capability(verb)
    bandwidth = "at most so many bytes a second; K, M and G are 1024 and on"
    verb.add_argument("--bandwidth", type=_bytes, metavar="BYTES", help=bandwidth)
    downtime = "the VM may stand still for so many milliseconds at the end"
    verb.add_argument("--downtime-limit", type=_milliseconds, metavar="MS", help=downtime)
    verb.add_argument("--timeout", type=options.seconds, metavar="S", help="call it off after S seconds (default: never)")
    verb.add_argument("--quiet", action="store_true", help="no progress on standard error")
    options.as_json(verb)
    verb.epilog = "Exit status: 0 it has moved; 1 it has not, or nobody can say; 2 wrong usage. It is said where it runs."
    verb.set_defaults(wrong_usage=verb.error)


def run(arguments: argparse.Namespace) -> int:
    """Progress on standard error, where it runs on standard output."""
    from host_agent.qemu import until_signalled
    from host_agent.qemu.migrate import between
    from host_agent.qemu.migration_channel import MigMode
    from host_agent.qemu.migration_plan import Plan
    from host_agent.qemu.migration_route import incoming, outgoing

    if arguments.incoming_from and not arguments.incoming_qmp:
        arguments.wrong_usage("--incoming-from is for --incoming-qmp")
    if arguments.qmp is None:
        if arguments.vm is None:
            arguments.wrong_usage("say which: --qmp SOCKET")
        raise HostError(_LIBXLS.format(printable(arguments.vm, 100)))
    mode = MigMode(arguments.mode)
    plan = Plan(
        to=outgoing(arguments.to, mode),
        listen=incoming(arguments.incoming_from) if arguments.incoming_from else None,
        mode=mode,
        switches=frozenset(arguments.capabilities),
        bandwidth=arguments.bandwidth,
        downtime=arguments.downtime_limit,
        timeout=arguments.timeout,
    )
    name, outcome = until_signalled.run(between(arguments.qmp, arguments.incoming_qmp, plan, telling(quiet=arguments.quiet)))
    show(arguments.vm or name, outcome, as_json=arguments.json)
    return 0 if outcome.moved else 1


def mode(verb: argparse.ArgumentParser) -> None:
    """``--mode``."""
    from host_agent.qemu.migration_channel import MigMode

    words = "how: cpr-reboot is into a file, and back from it when this host has rebooted (default: %(default)s)"
    verb.add_argument("--mode", choices=[each.value for each in MigMode], default=MigMode.NORMAL.value, help=words)


def capability(verb: argparse.ArgumentParser) -> None:
    """``--capability``."""
    words = "have QEMU's migration capability NAME, multifd for example, which both ends need; can be said again"
    verb.add_argument("--capability", action="append", default=[], dest="capabilities", metavar="NAME", help=words)


def _bytes(text: str) -> int:
    """A number of bytes a second, for ``type=``."""
    match = _SIZE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError("expected a number of bytes, perhaps with K, M or G")
    return int(match[1]) << 10 * (" KMG".index(match[2].upper()) if match[2] else 0)


def _milliseconds(text: str) -> int:
    """A number of milliseconds, for ``type=``."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_DOWNTIME:
        raise argparse.ArgumentTypeError(f"expected a number of milliseconds, 1 to {_MAX_DOWNTIME}")
    return int(text)


def telling(*, quiet: bool) -> Callable[[str], None]:
    """Tells progress."""
    start = time.monotonic()

    def tell(text: str) -> None:
        if not quiet:
            print(f"{time.monotonic() - start:8.1f} s  {text}", file=sys.stderr, flush=True)

    return tell


def show(vm: str, outcome: Outcome, *, as_json: bool) -> None:
    """Where it runs."""
    if as_json:
        options.print_json(outcome.values(vm))
    else:
        print(outcome.text(vm))
