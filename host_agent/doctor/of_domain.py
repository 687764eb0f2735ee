# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with the domain that a VM is: it is off, paused, another than the document says, or two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen, beyond
from pv_channel.greeting import uuid_text

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Case


def _another_uuid(case: Case) -> Seen | None:
    if case.namesake is None or case.domains:
        return None
    theirs = uuid_text(case.namesake.uuid)
    return Seen(
        "the running domain of that name has another uuid than the document, so it is not the VM that is meant",
        (
            f"domain {case.namesake.name} ({case.namesake.domid}) has uuid {theirs} (/local/domain/{case.namesake.domid}/vm)",
            f"the document is for {case.wanted_uuid}",
        ),
        (("theirs", theirs), ("ours", case.wanted_uuid)),
    )


def _two_domains(case: Case) -> Seen | None:
    if len(case.domains) < 2:
        return None
    return Seen(
        "several running domains are this VM, and none is served until one is left",
        tuple(f"domain {domain.name} ({domain.domid}) has uuid {uuid_text(domain.uuid)}" for domain in case.domains[:8]),
    )


def _not_running(case: Case) -> Seen | None:
    if not case.dom0.knows_domains or case.domains or case.namesake is not None:
        return None
    which = f"uuid {case.wanted_uuid}" if case.wanted_uuid else f"the name {case.vm}"
    elsewhere = (f"in the fleet dom0 {case.owner} has it",) if case.owner else ()
    return Seen("the VM is not running", (f"no domain in xenstore has {which}", *elsewhere))


def _paused(case: Case) -> Seen | None:
    if not case.paused:
        return None
    evidence = (f"xl list: {case.paused}",)
    return Seen("the VM is paused: its guest answers nothing until it goes on", evidence, (("domid", case.domid),))


_BEYOND: Final = beyond(Layer.DOMAIN)

DIAGNOSES: Final = (
    Diagnosis(
        "another-uuid", Layer.DOMAIN,
        "the running domain has another uuid than its document names: every 'xl create' without 'uuid=' makes a new one",
        "uuid = \"{ours}\" in the VM's configuration, or 'uuid: {theirs}' in its document",
        _another_uuid, (*_BEYOND, Layer.TRUST),
    ),
    Diagnosis(
        "two-domains", Layer.DOMAIN,
        "two running domains have one uuid or name; a migration within this dom0 looks so for a while",
        "wait for a migration to end; else give each domain its own uuid",
        _two_domains, _BEYOND,
    ),
    Diagnosis(
        "domain-not-running", Layer.DOMAIN,
        "the VM is off, or runs on another host",
        "xl create the VM here, or leave it off: its document waits",
        _not_running, _BEYOND,
    ),
    Diagnosis(
        "domain-paused", Layer.DOMAIN,
        "the hypervisor has paused the VM",
        "xl unpause {domid}",
        _paused, (Layer.KERNEL, Layer.AGENT),
    ),
)  # fmt: skip
