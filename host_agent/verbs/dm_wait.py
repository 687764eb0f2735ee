# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent dm wait`: wait until the QEMU in the stubdomain is up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from host_agent.verbs import dm_domains, options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

#: libxl's.
WAIT_SECONDS: Final = 30.0


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Wait until the stubdomain has written 'running' at /local/domain/S/device-model/T/state. Where it does not: whether"
        " nothing is there, or another word, or the stubdomain is gone, or xenstore is."
    )
    dm_domains.describe(verb)
    how_long = "for at most S seconds (default: %(default)g, as libxl)"
    verb.add_argument("--timeout", type=options.seconds, default=WAIT_SECONDS, metavar="S", help=how_long)
    options.as_json(verb)
    verb.set_defaults(do=run)


def run(arguments: Namespace) -> int:
    """Why not, on standard error."""
    import asyncio

    from host_agent.stubdom.readiness import NotReady

    dm_domains.words(arguments)
    start = time.monotonic()
    try:
        who = asyncio.run(_wait(arguments))
    except NotReady as exc:
        if not arguments.json:
            raise
        options.print_json({"ready": False, "why": str(exc.why), "detail": str(exc)})
        return 1
    seconds = time.monotonic() - start
    if arguments.json:
        options.print_json({"ready": True, "seconds": round(seconds, 3)})
    else:
        print(f"running after {seconds:.1f} s: {who}")
    return 0


async def _wait(arguments: Namespace) -> str:
    from host_agent.stubdom.readiness import RUNNING, wait_for

    async with dm_domains.found(arguments) as (store, _, pair):
        await wait_for(store, pair, pair.state, RUNNING, arguments.timeout, dm_domains.tell)
        return str(pair)
