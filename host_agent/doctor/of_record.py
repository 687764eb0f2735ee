# SPDX-License-Identifier: Apache-2.0
"""What the ledger has against a VM: keys that are not believed, and a document that did not become what it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen
from host_agent.ledger.standing import State
from host_agent.talk.judgement import REVOKED_THERE
from host_agent.talk.notices import GOOD

if TYPE_CHECKING:
    from host_agent.doctor.evidence import Case

#: What an item of a network says that was not confirmed, by reason (PROTOCOL.md).
_UNCONFIRMED: Final = {"unconfirmed": "the host did not confirm it in time", "rejected": "the host's check said no"}
#: How `judgement.refusal_text` begins where the guest says that it is another VM.
_ANOTHER_VM: Final = "the guest refused: its VM's uuid is"


def _key_changed(case: Case) -> Seen | None:
    return _in_state(case, State.KEY_CHANGED, "the guest has another key than at first contact; nothing is sent to it")


def _key_shared(case: Case) -> Seen | None:
    return _in_state(case, State.KEY_SHARED, "the guest has a key that is another VM's, too; nothing is sent to it")


def _another_vm(case: Case) -> Seen | None:
    seen = _in_state(case, State.REFUSED, "the guest says that it is another VM than the document is for")
    return seen if case.record is not None and case.record.detail.startswith(_ANOTHER_VM) else None


def _revoked(case: Case) -> Seen | None:
    seen = _in_state(case, State.REFUSED, "the guest was told never to believe this host's key, or its authority's, again")
    return seen if case.record is not None and case.record.detail.startswith(REVOKED_THERE) else None


def _not_believed(case: Case) -> Seen | None:
    seen = _in_state(case, State.REFUSED, "the guest does not believe this host's key")
    return None if case.record is not None and case.record.detail.startswith((_ANOTHER_VM, REVOKED_THERE)) else seen


def _in_state(case: Case, state: str, verdict: str) -> Seen | None:
    if case.record is None or case.record.state != state:
        return None
    return Seen(verdict, (f"the ledger: {case.record.detail or case.record.state}",))


def _network(case: Case) -> Seen | None:
    record = case.record
    unconfirmed = [] if record is None else [(item, why) for item, why in record.failed if why in _UNCONFIRMED]
    if not unconfirmed:
        return None
    return Seen(
        "the VM's new network was put back: it was not confirmed",
        tuple(f"item {item} failed, '{why}': {_UNCONFIRMED[why]}" for item, why in unconfirmed),
    )


def _items(case: Case) -> Seen | None:
    record = case.record
    failed = [] if record is None else [(item, why) for item, why in record.failed if why not in _UNCONFIRMED]
    if not failed:
        return None
    return Seen("parts of the document failed in the guest", tuple(f"item {item} failed: {why}" for item, why in failed[:12]))


def _refused(case: Case) -> Seen | None:
    record = case.record
    if record is None or record.failed or record.outcome in ("", *GOOD):
        return None
    why = " ".join(word for word in (record.reason, record.path, record.result_detail) if word)
    return Seen("the guest did not take the document", (f"its answer was '{record.outcome}': {why or 'without a reason'}",))


DIAGNOSES: Final = (
    Diagnosis(
        "key-changed", Layer.TRUST,
        "the guest was installed anew, or is not the guest that it was",
        "find out which; if it was installed anew: pv-host-agent forget-key {vm}",
        _key_changed,
    ),
    Diagnosis(
        "key-shared", Layer.TRUST,
        "two VMs have one key: one was cloned from a disk on which the agent had run",
        "in the clone remove /var/lib/pv-guest-agent and restart it, then: pv-host-agent forget-key {vm};"
        " a template is made by 'pv-guest-agent seal'",
        _key_shared,
    ),
    Diagnosis(
        "wrong-vm", Layer.TRUST,
        "the uuid in the document is not the one that the guest's hypervisor tells it",
        "correct 'uuid:' in the document, or 'uuid =' in the VM's configuration",
        _another_vm,
    ),
    Diagnosis(
        "wrong-key", Layer.TRUST,
        "the template pinned another host's key or another authority",
        "add what 'pv-host-agent keys show' prints to /etc/pv-guest-agent/trusted_keys in the guest, or have the authority that"
        " the guest trusts sign this host's key: pv-host-agent keys request",
        _not_believed,
    ),
    Diagnosis(
        "key-revoked", Layer.TRUST,
        "a document that reached the guest revoked the key: it was rotated away, or stolen",
        "'pv-host-agent keys show' says whose key it is: this host's gets a successor by 'pv-host-agent keys rotate';"
        " for an authority's another one signs: pv-host-agent keys request",
        _revoked,
    ),
    Diagnosis(
        "network-put-back", Layer.OUTCOME,
        "a changed network was not confirmed by its deadline, and the guest has its old one again",
        "correct 'network' or 'confirm' in the document; 'pv-host-agent status {vm}' shows what the check said",
        _network,
    ),
    Diagnosis(
        "item-failed", Layer.OUTCOME,
        "the guest answered, and an item of the document failed in it",
        "pv-host-agent status {vm} shows each item with the end of its log; mend the document or the guest:"
        " a changed document is sent again, 'pv-host-agent reprovision {vm}' sends the same",
        _items,
    ),
    Diagnosis(
        "document-refused", Layer.OUTCOME,
        "the guest answered, and refused the document as a whole",
        "pv-host-agent status {vm} shows its words; mend the document at the place that they name, or upgrade the guest's agent",
        _refused,
    ),
)  # fmt: skip
