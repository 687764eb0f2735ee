# SPDX-License-Identifier: Apache-2.0
"""What can be wrong where documents come from a fleet: etcd, this host's lease or name, a VM's document, who provisions it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.channels.ends import NOTHING
from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen
from host_agent.doctor.of_document import bad_document, lacks_document, was_removed
from host_agent.errors import shown
from host_agent.fleet.cache import FILE_NAME

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Case, Dom0, InFleet


def _no_etcd(dom0: Dom0) -> Seen | None:
    fleet = dom0.fleet
    if fleet is None or not fleet.away:
        return None
    where = shown(dom0.state / FILE_NAME)
    seen = f"{where} has the documents that were last seen, {fleet.remembered}: they stay in force, and were looked at"
    unseen = f"{where} has none of this fleet's documents either, so nothing is known of them"
    return Seen(
        "the fleet's etcd cannot be asked: what runs goes on, and no new generation is sent once this host's lease is over",
        (fleet.away, unseen if fleet.remembered is None else seen),
        (("file", shown(fleet.file)),),
    )


def _lease_lost(dom0: Dom0) -> Seen | None:
    fleet, service = dom0.fleet, dom0.service
    if fleet is None or fleet.is_there or service is None:
        return None
    evidence = (f"{fleet.place}dom0s/{fleet.dom0} is not there", f"process {service.pid} is {' '.join(service.argv)}")
    return Seen("this host has no lease in its fleet, so no VM is its own", evidence, (("file", shown(fleet.file)),))


def _name_taken(dom0: Dom0) -> Seen | None:
    fleet = dom0.fleet
    if fleet is None or not fleet.name_taken or dom0.service is None:
        return None
    evidence = f"{fleet.place}dom0s/{fleet.dom0} is there, and not under the lease of this host"
    return Seen(f"another host is dom0 '{fleet.dom0}' in the fleet", (evidence,), (("file", shown(fleet.file)),))


def _bad_document(case: Case) -> Seen | None:
    return None if case.dom0.fleet is None else bad_document(case)


def _no_document(case: Case) -> Seen | None:
    fleet = case.dom0.fleet
    if fleet is None or not lacks_document(case) or (fleet.away and fleet.remembered is None):
        return None
    when = " as it was last seen" if fleet.away else ""
    evidence = (f"nothing below {fleet.place}documents/{when} is for the VM, by its name or uuid", *was_removed(case))
    return Seen("there is no document for the VM in the fleet, so it is left alone", evidence)


def _another_owner(case: Case) -> Seen | None:
    fleet = case.dom0.fleet
    if fleet is None or case.owner in ("", fleet.dom0) or not _is_here(case):
        return None
    return Seen(
        f"dom0 {case.owner} provisions the VM, so this host, dom0 {fleet.dom0}, does not",
        (f"{_owners_key(case, fleet)} has {case.owner}",),
        (("owner", case.owner),),
    )


def _not_claimed(case: Case) -> Seen | None:
    fleet, service = case.dom0.fleet, case.dom0.service
    if fleet is None or fleet.away or not fleet.is_there or fleet.name_taken or service is None:
        return None
    if case.owner or not case.has_document or not _is_here(case):
        return None
    return Seen(
        "no dom0 has claimed the VM, and it is here", (f"{_owners_key(case, fleet)} is not there",), (("pid", str(service.pid)),)
    )


def _owners_key(case: Case, fleet: InFleet) -> str:
    return f"{fleet.place}owners/{case.key}"


def _is_here(case: Case) -> bool:
    """Whether the VM is on this host, as far as can be known."""
    if case.dom0.knows_domains:
        return bool(case.domains)
    return case.ends is not None and case.ends.kind != NOTHING


OF_HOST: Final = (
    Diagnosis(
        "no-etcd", Layer.HOST,
        "the fleet's etcd does not answer, or not to this host; the documents that were last seen stay in force",
        "see whether etcd is up and {file} is right about it: pv-host-agent fleet status --fleet {file}",
        _no_etcd,
    ),
    Diagnosis(
        "lease-lost", Layer.HOST,
        "this host is not there in its fleet: its lease is over, or its service has no part in one; no generation is sent",
        "journalctl -u pv-host-agent says why; is it 'serve --fleet {file}' (systemctl cat pv-host-agent)?"
        " Where documents are in a directory: doctor --documents DIR",
        _lease_lost,
    ),
    Diagnosis(
        "name-taken", Layer.HOST,
        "another host has this one's name in the fleet, so this one claims no VM; a disk that was copied looks so",
        "run doctor again in a minute, for a lease from before a boot ends by itself; else another 'dom0' in {file}, and"
        " systemctl restart pv-host-agent",
        _name_taken,
    ),
)  # fmt: skip

OF_VM: Final = (
    Diagnosis(
        "bad-document-in-etcd", Layer.DOCUMENT,
        "the VM's document in the fleet, or what lies below it, is wrong; what was in force before stays",
        "mend the key that is named: correct the file that it was pushed from, and 'pv-host-agent fleet push' it",
        _bad_document,
    ),
    Diagnosis(
        "no-document-in-etcd", Layer.DOCUMENT,
        "nothing in the fleet says what the VM should become, so no dom0 touches it",
        "write {vm}.yaml, with the VM's 'uuid:' (man 5 pv-channel-document), and: pv-host-agent fleet push {vm}.yaml",
        _no_document, (Layer.CLIENT, Layer.AGENT),
    ),
    Diagnosis(
        "another-owner", Layer.DOCUMENT,
        "the VM is here, and another dom0 provisions it: it is there as well, or has just come from there",
        "look at it on dom0 {owner} (pv-host-agent fleet status {vm}), and shut down the one that should not run; after a"
        " migration it is this host's within seconds, and after that host's death once its lease is over",
        _another_owner, (Layer.CLIENT, Layer.AGENT),
    ),
    Diagnosis(
        "not-claimed", Layer.DOCUMENT,
        "the VM is here and has a document, and this host has not made it its own",
        "wait a few seconds and run doctor again; then journalctl _PID={pid} says what of another host's does not fit here",
        _not_claimed, (Layer.CLIENT, Layer.AGENT),
    ),
)  # fmt: skip
