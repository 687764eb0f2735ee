# SPDX-License-Identifier: Apache-2.0
"""Look at this host's fleet, and change nothing: its documents in etcd, or as last seen, its lease, and who has which VM."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.doctor.at_host import without_cure
from host_agent.doctor.at_records import Documents
from host_agent.doctor.evidence import InFleet
from host_agent.errors import BadFile, HostError
from host_agent.etcd.errors import Away
from host_agent.fleet import cache, documents
from host_agent.fleet.claims import owner_of
from host_agent.fleet.layout import Layout
from host_agent.fleet.push import texts_of

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.doctor.evidence import FleetFile
    from host_agent.etcd.client import Etcd
    from host_agent.etcd.wire import KeyValue
    from host_agent.fleet.cache import Text

#: For all of what etcd is asked.
ANSWER_SECONDS: Final = 30.0


class _Asked(NamedTuple):
    """What etcd has: what operators wrote, that this host is there, and the dom0 that has each VM, by its key."""

    texts: dict[str, Text]
    presence: KeyValue | None
    owners: dict[str, str]


def look_at_fleet(file: FleetFile, state: Path) -> tuple[Documents, InFleet]:
    """Its documents, all of them, and this host's part in it; the service's memory of the fleet is in *state*."""
    fleet, layout = file.fleet, Layout(file.fleet.prefix)
    known = cache.look(state, fleet.memory)
    seen = InFleet(f"etcd:{fleet.prefix}", file.path, fleet.dom0)
    try:
        asked = asyncio.run(_ask(file, layout))
    except HostError as exc:
        texts = {} if known is None else known.texts
        found = read_texts(fleet.prefix, texts)
        remembered = None if known is None else len(found.wanted) + len(found.errors)
        return found, seen._replace(away=without_cure(str(exc)), remembered=remembered)
    lease = 0 if known is None else known.lease
    is_anothers = asked.presence is not None and asked.presence.lease != lease
    seen = seen._replace(is_there=asked.presence is not None, name_taken=is_anothers, owners=asked.owners)
    return read_texts(fleet.prefix, asked.texts), seen


def read_texts(prefix: str, texts: dict[str, Text]) -> Documents:
    """The documents of all VMs that *texts* has, which are below *prefix* in etcd."""
    found = documents.Documents(prefix, texts)
    wanted, errors = [], {}
    for vm in sorted(found.vms()):
        try:
            wanted.append(found.wanted(vm))
        except BadFile as exc:
            errors[vm] = str(exc)
    return Documents(tuple(wanted), errors)


async def _ask(file: FleetFile, layout: Layout) -> _Asked:
    etcd = file.fleet.connect()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _read(etcd, layout, file.fleet.dom0)
    except TimeoutError:
        raise Away(f"etcd did not answer within {ANSWER_SECONDS:g} s") from None
    finally:
        await etcd.close()


async def _read(etcd: Etcd, layout: Layout, dom0: str) -> _Asked:
    texts = await texts_of(etcd, layout, layout.written)
    presence = await etcd.get(layout.dom0(dom0))
    owners = (await etcd.read(layout.owners)).kvs
    named = {kv.key.removeprefix(layout.owners.key).decode("ascii", "replace"): owner_of(kv.value) for kv in owners}
    return _Asked(texts, presence, named)
