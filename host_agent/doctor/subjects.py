# SPDX-License-Identifier: Apache-2.0
"""Who is asked about: each VM with its document, its record and its running domain, of all that have a right to a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from host_agent.errors import HostError
from host_agent.ledger.standing import State
from pv_channel.errors import LocalError
from pv_channel.greeting import NO_UUID, uuid_bytes, uuid_text
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from host_agent.channels.discovery import Survey
    from host_agent.channels.endpoint import Domain
    from host_agent.doctor.at_records import Documents, Recorded, Records
    from host_agent.documents.document_file import Wanted

Of = TypeVar("Of")


class Subject(NamedTuple):
    """One VM: *key* is its uuid as text, or its name where nothing names a uuid."""

    name: str
    key: str
    wanted: Wanted | None = None
    error: str = ""
    rivals: tuple[str, ...] = ()
    recorded: Recorded | None = None
    domains: tuple[Domain, ...] = ()
    namesake: Domain | None = None

    @property
    def uuid(self) -> bytes:
        """Which, as far as a document or the ledger says."""
        return _uuid(self.key) if self.wanted is None else self.wanted.uuid


def subjects(documents: Documents, records: Records, survey: Survey | None, channel: str) -> list[Subject]:
    """All that have a document, a record, or a running domain with *channel*, in this order, each once."""
    by_key = {one.key: one for one in records.vms}
    found = [*_documented(documents, by_key), *_recorded(documents, records)]
    domains = [] if survey is None else survey.domains
    by_uuid, by_name = _gathered(domains, lambda domain: domain.uuid), _gathered(domains, lambda domain: domain.name)
    found = [_with_domains(subject, by_uuid, by_name) for subject in found]
    taken = {domain.domid for subject in found for domain in (*subject.domains, subject.namesake) if domain is not None}
    channels = set() if survey is None else {console.owner for console in survey.consoles if console.name == channel}
    return found + [_of_domain(domain) for domain in domains if domain.domid in channels - taken]


def meant(vm: str, everything: list[Subject], survey: Survey | None) -> Subject:
    """The one that is called *vm*: a name, a uuid or a domid; raise `HostError` where nothing is called so."""
    named = [one for one in everything if vm == one.name] or [one for one in everything if vm.lower() == one.key]
    if named:
        return named[0]
    for domain in () if survey is None else survey.domains:
        if vm in (domain.name, str(domain.domid)) or _uuid(vm) == domain.uuid != NO_UUID:
            known = [one for one in everything if domain in one.domains]
            return known[0] if known else _of_domain(domain)
    raise HostError(f"{printable(vm)}: no document, no record in the ledger and no running domain is called so, by name or uuid")


def concern(subject: Subject, named: Container[str]) -> bool:
    """Whether to look at it where all VMs are looked at: it runs, or has a socket among those *named*, or its document is wrong.

    One that is off is in order.
    """
    running = bool(subject.domains) or subject.namesake is not None or subject.name in named
    return running or bool(subject.error or subject.rivals)


def _documented(documents: Documents, records: dict[str, Recorded]) -> Iterator[Subject]:
    names: dict[str, list[str]] = {}
    for wanted in documents.wanted:
        names.setdefault(wanted.key, []).append(wanted.name)
    for wanted in documents.wanted:
        rivals = tuple(name for name in names[wanted.key] if name != wanted.name)
        yield Subject(wanted.name, wanted.key, wanted, "", rivals, records.get(wanted.key))
    by_name = {one.name: one for one in records.values()}
    for name, error in documents.errors.items():
        known = by_name.get(name)
        yield Subject(name, name if known is None else known.key, None, error, (), known)


def _recorded(documents: Documents, records: Records) -> Iterator[Subject]:
    """What the ledger has beside; a VM whose document was removed may rest in peace."""
    keys, names = {wanted.key for wanted in documents.wanted}, documents.errors.keys()
    for one in records.vms:
        if one.key not in keys and one.name not in names and one.record.state != State.REMOVED:
            yield Subject(one.name, one.key, recorded=one)


def _gathered(domains: Iterable[Domain], key: Callable[[Domain], Of]) -> dict[Of, tuple[Domain, ...]]:
    found: dict[Of, tuple[Domain, ...]] = {}
    for domain in domains:
        found[key(domain)] = (*found.get(key(domain), ()), domain)
    return found


def _with_domains(
    subject: Subject, by_uuid: Mapping[bytes, tuple[Domain, ...]], by_name: Mapping[str, tuple[Domain, ...]]
) -> Subject:
    of_that_name = by_name.get(subject.name, ())
    if subject.uuid == NO_UUID:
        return subject._replace(domains=of_that_name)
    his = by_uuid.get(subject.uuid, ())
    return subject._replace(domains=his, namesake=of_that_name[0] if of_that_name and not his else None)


def _of_domain(domain: Domain) -> Subject:
    key = printable(domain.name) if domain.uuid == NO_UUID else uuid_text(domain.uuid)
    return Subject(printable(domain.name, 200) or key, key, domains=(domain,))


def _uuid(text: str) -> bytes:
    try:
        return uuid_bytes(text)
    except LocalError:
        return NO_UUID
