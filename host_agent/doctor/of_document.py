# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with what a VM should become: no document, a bad one, two of them, one that the service has not taken up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen
from host_agent.errors import shown
from host_agent.ledger.standing import State

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Case


def bad_document(case: Case) -> Seen | None:
    """The VM's document cannot be used, wherever it is."""
    error = case.document_error or ("" if case.has_document or case.record is None else case.record.document_error)
    if not error:
        return None
    before = case.record is not None and case.record.digest != ""
    kept = "the last good one stays in force" if before else "there is no good one before it"
    return Seen(f"the VM's document cannot be used; {kept}", (error,), (("documents", shown(case.dom0.documents)),))


def lacks_document(case: Case) -> bool:
    """Whether there is none, not even a bad one, and was none when the service looked."""
    return not (case.has_document or case.document_error or (case.record is not None and case.record.document_error))


def was_removed(case: Case) -> tuple[str, ...]:
    """What shows that there was one once."""
    removed = case.record is not None and case.record.state == State.REMOVED
    return ("there was one, and it was removed",) if removed else ()


def _bad_document(case: Case) -> Seen | None:
    return bad_document(case) if case.dom0.fleet is None else None


def _two_documents(case: Case) -> Seen | None:
    if not case.rivals:
        return None
    names = ", ".join(case.rivals)
    return Seen("the VM has more than one document, and only one is served", (f"for the same VM are also: {names}",))


def _no_document(case: Case) -> Seen | None:
    if case.dom0.fleet is not None or not lacks_document(case):
        return None
    where = shown(case.dom0.documents)
    evidence = (f"no file in {where} is for the VM, by its name or uuid", *was_removed(case))
    return Seen("there is no document for the VM, so it is left alone", evidence, (("documents", where),))


def _not_taken_up(case: Case) -> Seen | None:
    if case.dom0.service is None or not case.digest or case.record is None or case.record.digest in ("", case.digest):
        return None
    return Seen(
        "the service has not taken up the document as it is now",
        (
            f"the document's digest is {case.digest[:16]}, and the ledger's is {case.record.digest[:16]}",
            f"process {case.dom0.service.pid} serves from this state directory; does it read {case.dom0.source}?",
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
        "wait a few seconds and run doctor again; then: systemctl status pv-host-agent; is its --documents,"
        " or its --fleet, the same?",
        _not_taken_up,
    ),
)  # fmt: skip
