# SPDX-License-Identifier: Apache-2.0
"""Gather all evidence once, touching nothing: no channel is connected to, no file is changed, no lock is taken."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.channels.discovery import Survey, survey
from host_agent.channels.listing import path_of
from host_agent.channels.processes import process
from host_agent.doctor.at_host import Where, look_at_host
from host_agent.doctor.at_place import directory_trouble, named_sockets, settled_ends, squatted
from host_agent.doctor.at_records import Records, read_documents, read_records
from host_agent.doctor.evidence import Case, Dom0, Evidence, Qemu
from host_agent.doctor.paused import paused
from host_agent.doctor.qemu import qemu_of
from host_agent.doctor.subjects import Subject, concern, meant, subjects
from host_agent.errors import HostError, shown
from pv_channel.greeting import NO_UUID, uuid_text
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from host_agent.channels.endpoint import Domain
    from host_agent.channels.ends import Ends
    from host_agent.channels.toolstack import Console
    from host_agent.doctor.at_records import Documents
    from host_agent.doctor.evidence import InFleet


def gather(where: Where, vm: str | None, tell: Callable[[str], None]) -> Evidence:
    """All of it, of the one VM *vm* or of all; *tell* hears what takes time. Raise `HostError` where no VM is called so."""
    if not _may_look(where.state):
        raise HostError(f"{shown(where.state)}: no permission; doctor is root's, for it looks at all that concerns a channel")
    found, trouble = _survey(where)
    documents, fleet = _documents(where, tell)
    records = read_records(where.state)
    tell(f"looking at {len(documents.wanted)} documents and {len(records.vms)} records")
    everything = subjects(documents, records, found, where.channel)
    named = named_sockets(where)
    chosen = [one for one in everything if concern(one, named)] if vm is None else [meant(vm, everything, found)]
    dom0 = _with_records(look_at_host(where)._replace(fleet=fleet), records, len(everything), documents.trouble)
    chosen.sort(key=lambda one: one.name)
    return _cases(where, chosen, named, found, dom0._replace(xen=trouble, knows_domains=found is not None))


def _documents(where: Where, tell: Callable[[str], None]) -> tuple[Documents, InFleet | None]:
    if where.fleet is None:
        return read_documents(where.documents), None
    from host_agent.doctor.at_fleet import look_at_fleet

    tell(f"asking for {where.fleet.fleet.said}")
    return look_at_fleet(where.fleet, where.state)


def _may_look(state: Path) -> bool:
    try:
        next(state.iterdir(), None)
    except PermissionError:
        return False
    except OSError:  # no directory: a finding of its own
        return True
    return True


def _survey(where: Where) -> tuple[Survey | None, str]:
    if not where.xenstore:
        return None, ""
    try:
        return asyncio.run(survey(where.xenstore)), ""
    except HostError as exc:
        return None, str(exc)


def _with_records(dom0: Dom0, records: Records, vms: int, documents_trouble: str) -> Dom0:
    return dom0._replace(
        ledger_trouble=dom0.ledger_trouble or records.trouble,
        documents_trouble=dom0.documents_trouble or documents_trouble,
        vms=vms,
        ahead=max(records.latest - time.time(), 0.0),
    )


def _cases(where: Where, chosen: list[Subject], named: dict[str, str], found: Survey | None, dom0: Dom0) -> Evidence:
    consoles = _Consoles(Survey([], []) if found is None else found)
    cases = [_case(where, subject, consoles, dom0) for subject in chosen]
    places = [case.place or _place_of_record(subject, named) for case, subject in zip(cases, chosen, strict=True)]
    try:
        at = settled_ends(filter(None, places))
    except HostError as exc:
        dom0, at = dom0._replace(peers_trouble=str(exc)), {}
    stopped = paused() if any(case.domains for case in cases) else {}
    return Evidence(
        dom0,
        tuple(
            _with_ends(case, at.get(place))._replace(dom0=dom0, paused=stopped.get(case.domid, ""))
            for case, place in zip(cases, places, strict=True)
        ),
    )


class _Consoles:
    """All consoles but the primary ones, by their domain and by their place."""

    def __init__(self, found: Survey) -> None:
        self.of: defaultdict[int, list[Console]] = defaultdict(list)
        self._at: defaultdict[str, list[Console]] = defaultdict(list)
        self._device_models = {domain.domid: domain.device_model for domain in found.domains}
        for console in found.consoles:
            if console.id != "0":
                self.of[console.owner].append(console)
                self._at[path_of(console)].append(console)

    def served(self, domain: Domain, ours: Console | None) -> Domain:
        """*domain* with the QEMU that serves its console *ours*, which may be its stubdomain's."""
        return domain if ours is None else domain._replace(device_model=self._device_models.get(ours.domid))

    def rivals(self, ours: Console) -> Iterator[str]:
        """Who else has the place of *ours*."""
        for other in self._at[path_of(ours)] if path_of(ours) else ():
            if other is not ours:
                yield f"domain {other.domid}'s console {other.id}, {printable(other.name)}"


def _case(where: Where, subject: Subject, consoles: _Consoles, dom0: Dom0) -> Case:
    """What is known of the VM without looking at its channel's place."""
    domain = subject.domains[0] if len(subject.domains) == 1 else None
    his = () if domain is None else tuple(consoles.of[domain.domid])
    ours = next((console for console in his if console.name == where.channel), None)
    served = None if domain is None else consoles.served(domain, ours)
    return Case(
        vm=subject.name,
        dom0=dom0,
        channel=where.channel,
        now=time.time(),
        has_document=subject.wanted is not None,
        document_error=subject.error,
        digest="" if subject.wanted is None else subject.wanted.digest,
        rivals=subject.rivals,
        record=None if subject.recorded is None else subject.recorded.record,
        domains=subject.domains if served is None else (served,),
        namesake=subject.namesake,
        wanted_uuid="" if subject.uuid == NO_UUID else uuid_text(subject.uuid),
        consoles=his,
        console=ours,
        path_owners=() if ours is None else tuple(consoles.rivals(ours)),
        key=subject.key,
        owner="" if dom0.fleet is None else dom0.fleet.owners.get(subject.key, ""),
        qemu=None if served is None else _qemu(served, served.domid if ours is None else ours.domid),
    )


def _qemu(domain: Domain, serves: int) -> Qemu | None:
    """The QEMU that *domain*'s channel is of: that of the domain *serves*, itself or its stubdomain."""
    if domain.device_model is None:
        return None
    return qemu_of(domain.device_model, process(domain.device_model), serves)


def _place_of_record(subject: Subject, named: dict[str, str]) -> str:
    """Where the VM's channel is, or was, where xenstore does not say."""
    record = None if subject.recorded is None else subject.recorded.record
    return named.get(subject.name, "") or ("" if record is None else record.channel)


def _with_ends(case: Case, at: Ends | None) -> Case:
    if at is None:
        return case
    domain = case.domains[0] if len(case.domains) == 1 else None
    trouble = "" if at.path.startswith("/dev/") else directory_trouble(Path(at.path).parent)
    return case._replace(ends=at, directory_trouble=trouble, squatted=() if trouble else squatted(at, domain))
