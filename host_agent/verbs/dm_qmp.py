# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent dm qmp`: ask the QEMU in a stubdomain something, or serve its monitor in dom0."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from host_agent.verbs import dm_domains, options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.stubdom.monitor import Way

WAIT_SECONDS: Final = 15.0


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Say one command to the VM's QEMU over vchan, and print what it returns, as JSON. Only one program can be connected:"
        " libxl's own lock is taken, and a second one is refused with the name of the first. Where nobody serves the monitor"
        " in dom0 yet, Xen's vchan-socket-proxy is started for the one command; --serve keeps it as long as the stubdomain"
        " lives, for xl and libvirt, too."
    )
    dm_domains.describe(verb, "COMMAND [ARGUMENTS]")
    serve = "serve the monitor at the socket until ended; a proxy that ends is started anew"
    verb.add_argument("--serve", action="store_true", help=serve)
    way(verb)
    verb.epilog = (
        'COMMAND is QEMU\'s, as query-status; ARGUMENTS is a JSON object, as \'{"id": "x"}\'. With --serve neither is said, and'
        " it ends with the stubdomain, or by SIGTERM. Exit status: 0 done; 1 QEMU refuses, or cannot be spoken to; 2 wrong usage."
    )
    verb.set_defaults(do=run)


def way(verb: ArgumentParser) -> None:
    """How the monitor is reached."""
    which = "Xen's vchan-socket-proxy (default: that of the newest Xen that is installed)"
    verb.add_argument("--proxy", type=Path, metavar="PATH", help=which)
    where = "where it listens in dom0 (default: libxl's /run/xen/qmp-libxl-T)"
    verb.add_argument("--socket", type=Path, metavar="PATH", help=where)
    how_long = "for the lock and QEMU's greeting, and for its answer (default: %(default)g)"
    verb.add_argument("--timeout", type=options.seconds, default=WAIT_SECONDS, metavar="S", help=how_long)


def way_of(arguments: Namespace) -> Way:
    """What `way` describes."""
    from host_agent.stubdom.monitor import Way

    return Way(arguments.proxy, arguments.socket, arguments.timeout)


def run(arguments: Namespace) -> int:
    """The answer on standard output."""
    from host_agent.qemu.until_signalled import run as until_signalled

    if arguments.serve:
        dm_domains.words(arguments)
        until_signalled(_serve(arguments))
        return 0
    command, *rest = dm_domains.words(arguments, 1, 2)
    options.print_json(until_signalled(_ask(arguments, command, _object(arguments, rest))))
    return 0


def _object(arguments: Namespace, rest: list[str]) -> dict[str, Any]:
    said: Any = None
    with suppress(ValueError, RecursionError):
        said = json.loads(rest[0]) if rest else {}
    if not isinstance(said, dict):
        arguments.wrong_usage("ARGUMENTS is no JSON object")
    found: dict[str, Any] = said
    return found


async def _ask(arguments: Namespace, command: str, said: dict[str, Any]) -> Any:
    from host_agent.stubdom.monitor import monitor

    async with (
        dm_domains.found(arguments) as (store, places, pair),
        monitor(store, places, pair, way_of(arguments)) as qmp,
    ):
        return await qmp.execute(command, said or None, seconds=arguments.timeout)


async def _serve(arguments: Namespace) -> None:
    from host_agent.stubdom.monitor import path_of
    from host_agent.stubdom.proxy import found
    from host_agent.stubdom.proxy_kept import keep

    async with dm_domains.found(arguments) as (store, places, pair):
        await keep(store, pair, found(arguments.proxy), path_of(places, pair, way_of(arguments)), dm_domains.tell)
