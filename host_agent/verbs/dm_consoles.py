# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent dm consoles`: what each console of a stubdomain is for, and where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from host_agent.verbs import dm_domains, options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Show each console of the VM's stubdomain: its role (0 QEMU's log, 1 the state that is saved, 2 the state that is"
        " restored, then the VM's serials and channels), its terminal inside, its end in dom0, how far the stubdomain's driver"
        " and QEMU's are, and who is connected. Nothing is connected to."
    )
    dm_domains.describe(verb)
    options.as_json(verb)
    verb.set_defaults(do=run)


def run(arguments: Namespace) -> int:
    """A table, or JSON."""
    import asyncio

    from host_agent.stubdom.console_listing import HEADER, console_values, row_of
    from host_agent.views.table import show

    dm_domains.words(arguments)
    pair, listed = asyncio.run(_consoles(arguments))
    if arguments.json:
        both = {"stubdomain": pair.stubdomain.domid, "target": pair.target.domid}
        options.print_json({**both, "consoles": [console_values(each) for each in listed]})
    else:
        show(HEADER, [row_of(each) for each in listed])
    return 0


async def _consoles(arguments: Namespace) -> Any:
    from host_agent.stubdom.console_listing import consoles

    async with dm_domains.found(arguments) as (store, _, pair):
        return pair, await consoles(store, pair)
