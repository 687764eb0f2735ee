# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with what a VM should become: no document, a bad one, two of them, one that the service has not taken up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen
from host_agent.errors import shown
from host_agent.ledger.standing import State

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Case


def _bad_document(case: Case) -> Seen | None:
    error = case.document_error or ("" if case.has_document or case.record is None else case.record.document_error)
    if not error:
        return None
    before = case.record is not None and case.record.digest != ""
    kept = "the last good one stays in force" if before else "there is no good one before it"
    return Seen(f"the VM's document cannot be used; {kept}", (error,), (("documents", shown(case.dom0.documents)),))


def _two_documents(case: Case) -> Seen | None:
    if not case.rivals:
        return None
    names = ", ".join(case.rivals)
    return Seen("the VM has more than one document, and only one is served", (f"for the same VM are also: {names}",))


def _no_document(case: Case) -> Seen | None:
    if case.has_document or case.document_error or (case.record is not None and case.record.document_error):
        return None
    where = shown(case.dom0.documents)
    evidence = [f"no file in {where} is for the VM, by its name or uuid"]
    if case.record is not None and case.record.state == State.REMOVED:
        evidence.append("there was one, and it was removed")
    return Seen("there is no document for the VM, so it is left alone", tuple(evidence), (("documents", where),))


def _not_taken_up(case: Case) -> Seen | None:
    if case.dom0.service is None or not case.digest or case.record is None or case.record.digest in ("", case.digest):
        return None
    return Seen(
        "the service has not taken up the document as it is now",
        (
            f"the file's digest is {case.digest[:16]}, and the ledger's is {case.record.digest[:16]}",
            f"process {case.dom0.service.pid} serves from this state directory; does it read {shown(case.dom0.documents)}?",
        ),
    )


DIAGNOSES: Final = (
    Diagnosis(
        "bad-document", Layer.DOCUMENT,
        "the VM's document is wrong; what was in force before stays",
        "mend what is named, and 'pv-host-agent check' says when it is right; the service takes it up by itself",
        _bad_document,
    ),
    Diagnosis(
        "two-documents", Layer.DOCUMENT,
        "several documents name the same VM, and one of them is ignored",
        "remove all but one, or give each its own VM's uuid",
        _two_documents,
    ),
    Diagnosis(
        "no-document", Layer.DOCUMENT,
        "nothing says what the VM should become, so the service does not touch it",
        "write {documents}/{vm}.yaml, with the VM's 'uuid:' (man 5 pv-channel-document)",
        _no_document, (Layer.CLIENT, Layer.AGENT),
    ),
    Diagnosis(
        "document-not-taken-up", Layer.DOCUMENT,
        "the service works on another version of the document: it reads another directory, or is stuck",
        "wait a few seconds and run doctor again; then: systemctl status pv-host-agent, and are its --documents these?",
        _not_taken_up,
    ),
)  # fmt: skip
