# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent serve`: serve every VM that has a document, over its channel, for ever."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.channels.name import claimed
from host_agent.channels.sockets import LIBVIRT
from host_agent.install import DOCUMENTS, SOCKETS
from host_agent.keys import existing, identify
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _ArgumentGroup

    from host_agent.channels.sources import Sources
    from host_agent.fleet.member import Member
    from host_agent.ledger.ledger import Ledger
    from host_agent.metrics.loopback import Address
    from host_agent.service import Beside, Service

DEFAULT_SOCKETS: Final = options.ROOT / SOCKETS
_WHOSE: Final = f"""
A document with a uuid is for the running domain with that uuid, one without for the domain of its name: its channel is the one
that xenstore has under the channel's name, a socket or a pty. Where xenstore names none, the socket of the document's name is it,
in the directories given and in libvirt's ({LIBVIRT}). SIGHUP reads documents and keys again at once, SIGTERM ends the service.
"""


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.epilog = _WHOSE
    documents = "NAME.yaml, NAME.yml or NAME.json per VM; beside it defaults.yaml and groups/ (default: %(default)s)"
    sockets = f"NAME.sock or NAME per VM, beside the channels that xenstore names; may be repeated (default: {DEFAULT_SOCKETS})"
    backends = "look there for programs that serve other applications' channels (see 'pv-host-agent backends'); may be repeated"
    no_xenstore = "serve the sockets in directories alone, as on a machine without Xen"
    verb.add_argument("--documents", type=Path, default=options.ROOT / DOCUMENTS, metavar="DIR", help=documents)
    verb.add_argument("--sockets", type=Path, action="append", metavar="DIR", help=sockets)
    fleet = "share VMs with other dom0s by etcd, as this file says, which then has the documents in place of a directory"
    verb.add_argument("--fleet", type=Path, metavar="FILE", help=fleet)
    verb.add_argument("--no-xenstore", action="store_true", help=no_xenstore)
    verb.add_argument("--backends", type=Path, action="append", metavar="DIR", help=backends)
    verb.add_argument("--verbose", action="store_true", help="log more")
    _describe_metrics(verb.add_argument_group("metrics", "What Prometheus reads: see README.md, \"Measure it\"."))
    options.channel(verb)
    options.state(verb)


def _describe_metrics(group: _ArgumentGroup) -> None:
    file = "write metrics to PATH.prom, for node exporter's textfile collector; the file is gone when the service is"
    every = "write that file every so many seconds (default: %(default)g)"
    listen = "serve metrics at http://127.0.0.1:PORT/metrics, or [::1]:PORT; no other address will do"
    per_vm = "measure every VM by itself, too: a few series for each, which thousands of VMs make many"
    group.add_argument("--metrics-file", type=Path, metavar="PATH.prom", help=file)
    group.add_argument("--metrics-every", type=options.seconds, default=15.0, metavar="S", help=every)
    group.add_argument("--metrics-listen", type=_loopback, metavar="ADDRESS:PORT", help=listen)
    group.add_argument("--metrics-per-vm", action="store_true", help=per_vm)


def _loopback(text: str) -> Address:
    from argparse import ArgumentTypeError

    from host_agent.metrics.loopback import address

    try:
        return address(text)
    except ValueError as exc:
        raise ArgumentTypeError(str(exc)) from None


def run(arguments: Namespace) -> int:
    """Until SIGTERM."""
    import asyncio
    import faulthandler
    import os
    from functools import partial

    from host_agent.at_start import allow_many_files, check_directories
    from host_agent.channels.discovery import Discovery
    from host_agent.channels.sources import Sources
    from host_agent.ledger.set_aside import open_sound
    from host_agent.log.happenings import Happening, noted
    from host_agent.serve_lock import hold
    from host_agent.service import Service, log

    faulthandler.enable()  # where we are when the watchdog aborts us
    channel = claimed(arguments.channel)
    sockets = arguments.sockets or [DEFAULT_SOCKETS]
    check_directories([arguments.documents, *sockets] if arguments.fleet is None else sockets)
    identify(arguments.state, log.info)
    allow_many_files()
    metrics = _metrics(arguments)
    lock = hold(arguments.state)
    try:
        ledger, said = open_sound(arguments.state)
        if said:
            log.error("%s", said, extra=noted(Happening.LEDGER_SET_ASIDE))
        sources = Sources(sockets, arguments.channel, None if arguments.no_xenstore else Discovery)
        beside = [_other_channels(arguments, sources), *metrics]
        member = None if arguments.fleet is None else _member(arguments)
        service = Service(
            arguments.documents, sources, channel, partial(existing, arguments.state), ledger, beside=beside, membership=member
        )
        asyncio.run(_serve(service, ledger, member))
    finally:
        os.close(lock)
    return 0


def _other_channels(arguments: Namespace, sources: Sources) -> Beside:
    """What serves other applications' channels, where there are files that say by which programs."""
    import os

    from host_agent.backends.descriptions import Convention
    from host_agent.backends.directories import directories
    from host_agent.backends.others import Others

    where = arguments.backends or directories(Convention.CHANNELS, os.environ, os.geteuid())
    others = Others(where, arguments.channel, lambda: sources.discovered)
    return "other applications' channels", others.serve


def _metrics(arguments: Namespace) -> list[Beside]:
    """What measures, where that is asked for."""
    if arguments.metrics_file is None and arguments.metrics_listen is None:
        return []
    from host_agent.metrics.work import Metrics

    file, every, listen = arguments.metrics_file, arguments.metrics_every, arguments.metrics_listen
    return [("metrics", Metrics(file, every, listen, per_vm=arguments.metrics_per_vm).measure)]


def _member(arguments: Namespace) -> Member:
    """This host's part in the fleet; raise `BadFile`."""
    from host_agent.fleet.cache import Cache
    from host_agent.fleet.config import read
    from host_agent.fleet.member import Member

    fleet = read(arguments.fleet)
    etcd = fleet.connect()
    return Member(fleet, arguments.state, Cache(arguments.state, fleet.memory), etcd)


async def _serve(service: Service, ledger: Ledger, member: Member | None) -> None:
    """Until SIGTERM; the ledger is closed while another SIGTERM still does no harm."""
    try:
        await service.run()
    finally:
        ledger.close()
        if member is not None:
            await member.close()
