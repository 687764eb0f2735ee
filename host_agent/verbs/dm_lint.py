# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent dm lint`: say which of QEMU's arguments cannot work in a stubdomain."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from host_agent.verbs import dm_domains, options
from host_agent.verbs.dm_argv import has

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Look at QEMU's arguments, those that are published for the VM or those after '--', for what cannot work in a stubdomain:"
        " files, sockets, disks and scripts of dom0's, a second nic or monitor, graphics, a wrong -incoming. Each finding has a"
        " word, the argument's number, a sentence and a cure. After '--', no VM need be named, and no Xen is asked."
    )
    dm_domains.describe(verb, "[-- QEMU ARGUMENT ...]")
    has(verb)
    options.as_json(verb)
    verb.epilog = "Exit status: 0 nothing was found; 1 something was, or the arguments cannot be read; 2 wrong usage."
    verb.set_defaults(do=run)


def run(arguments: Namespace) -> int:
    """Findings on standard output."""
    import asyncio

    from host_agent.stubdom.lint import lint

    if arguments.after:
        said = _target(arguments), [os.fsencode(word) for word in arguments.after]
    else:
        dm_domains.words(arguments)
        said = asyncio.run(_published(arguments))
    target, qemus = said
    findings = lint(qemus, target, arguments.has)
    if arguments.json:
        options.print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(finding)
        print(f"{len(qemus)} arguments, {len(findings)} findings")
    return 1 if findings else 0


def _target(arguments: Namespace) -> int | None:
    """The domain that QEMU is for, where a number says it."""
    said = arguments.target or (arguments.words[0] if arguments.words else "")
    return int(said) if said.isascii() and said.isdecimal() else None


async def _published(arguments: Namespace) -> tuple[int | None, list[bytes]]:
    from host_agent.stubdom.argv_nodes import published

    async with dm_domains.found(arguments) as (store, _, pair):
        return pair.target.domid, await published(store, pair)
