# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent dm argv`: publish the arguments of a stubdomain's QEMU, or show those that are published."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from host_agent.verbs import dm_domains, options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from host_agent.stubdom.pair import Pair


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Write what stands after '--' into xenstore as the arguments of the VM's QEMU, each byte as it is, all at once or not at"
        " all, as libxl does; and which domain is whose device model. The stubdomain's launcher reads it when it starts. What"
        " cannot work in a stubdomain is refused, as 'dm lint' says it."
    )
    dm_domains.describe(verb, "[-- QEMU ARGUMENT ...]")
    verb.add_argument("--show", action="store_true", help="print what is published, as a shell reads it, and change nothing")
    firmware = "the firmware that hvmloader is to start (default: unchanged)"
    verb.add_argument("--bios", choices=("rombios", "seabios", "ovmf"), help=firmware)
    verb.add_argument("--again", action="store_true", help="the stubdomain starts anew: forget that its QEMU was up")
    verb.add_argument("--anyway", action="store_true", help="publish even what 'dm lint' finds fault with")
    has(verb)
    options.as_json(verb)
    verb.set_defaults(do=run)


def has(verb: ArgumentParser) -> None:
    """``--has``."""
    words = "a file or directory that the stubdomain's own image has (again and again)"
    verb.add_argument("--has", action="append", default=[], metavar="PATH", help=words)


def run(arguments: Namespace) -> int:
    """Publish, or show."""
    import asyncio

    dm_domains.words(arguments)
    if arguments.show:
        if arguments.after:
            arguments.wrong_usage("--show changes nothing: leave out what stands after '--'")
        asyncio.run(_show(arguments))
        return 0
    if not arguments.after:
        arguments.wrong_usage("nothing to publish stands after '--'; --show prints what is published")
    asyncio.run(_publish(arguments, [os.fsencode(word) for word in arguments.after]))
    return 0


async def _publish(arguments: Namespace, qemus: Sequence[bytes]) -> None:
    from host_agent.errors import HostError
    from host_agent.stubdom.argv_nodes import Publication, publish
    from host_agent.stubdom.lint import lint

    async with dm_domains.found(arguments) as (store, _, pair):
        findings = lint(qemus, pair.target.domid, arguments.has)
        for finding in findings:
            dm_domains.tell(str(finding))
        if findings and not arguments.anyway:
            raise HostError(f"{len(findings)} faults in QEMU's arguments; nothing was written; cure: mend them, or say --anyway")
        directory = await publish(store, pair, Publication(qemus, arguments.bios, arguments.again))
    if arguments.json:
        options.print_json(values(pair, directory, qemus))
    else:
        print(f"published {len(qemus)} arguments in {directory} for {pair}")


async def _show(arguments: Namespace) -> None:
    from host_agent.stubdom import argv
    from host_agent.stubdom.argv_nodes import published, vm_of

    async with dm_domains.found(arguments) as (store, _, pair):
        there = await published(store, pair)
        directory = argv.directory_of(await vm_of(store, pair))
    if arguments.json:
        options.print_json(values(pair, directory, there))
    else:
        for argument in there:
            print(argv.shell_word(argument))


def values(pair: Pair, directory: str, arguments: Sequence[bytes]) -> dict[str, Any]:
    """The arguments as ``--json`` prints them: *base64* has the bytes; *text* is null where they are no UTF-8."""
    return {
        "stubdomain": pair.stubdomain.domid,
        "target": pair.target.domid,
        "directory": directory,
        "arguments": [
            {"number": number, "text": _text(argument), "base64": base64.b64encode(argument).decode("ascii")}
            for number, argument in enumerate(arguments, 1)
        ],
    }


def _text(argument: bytes) -> str | None:
    try:
        return argument.decode()
    except UnicodeDecodeError:
        return None
