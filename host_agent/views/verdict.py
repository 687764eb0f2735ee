# SPDX-License-Identifier: Apache-2.0
"""Whether a VM is what its document says: it is, it is not yet, or it will not be without an operator."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from host_agent.ledger.standing import State
from host_agent.talk.notices import DEGRADED, GOOD
from pv_channel.text import printable

_WHY: Final = 500
#: A VM that stands there waits for a person.
_NEEDS_A_PERSON: Final = (State.REFUSED, State.KEY_CHANGED, State.KEY_SHARED)


class Verdict(Enum):
    """The three answers."""

    READY = "ready"
    WAITING = "waiting"
    FAILED = "failed"


class Stands(NamedTuple):
    """What the ledger has of a VM that decides it. Some of it is a guest's words: see `judged`, which makes them safe."""

    key: str
    name: str
    state: str
    detail: str
    since: float
    domid: int | None
    document_error: str
    generation_wanted: int | None
    digest_wanted: str
    generation_sent: int
    digest_sent: str
    generation_applied: int
    generation_items: int
    outcome: str
    reason: str
    path: str
    result_detail: str
    #: Somebody else's key, or another VM's, was shown, and that is not resolved.
    quarrel: bool
    reprovision: bool
    #: The names of the items that are under way, and the first that failed with its reason and detail.
    pending: str
    failed: str

    @property
    def is_answered_badly(self) -> bool:
        """Whether the guest's answer to the last that it was sent is on record, and is not a good one."""
        answered = self.generation_sent == self.generation_items > 0 and self.state != State.PROVISIONING
        return answered and self.outcome not in ("", *GOOD)

    @property
    def word(self) -> str:
        """Where it stands, in one word for people: its state, or what is wrong although a session is well."""
        if self.document_error and self.state in (State.READY, State.DEGRADED):
            return State.BAD_DOCUMENT
        if self.is_answered_badly and self.state in (State.READY, State.DEGRADED):
            return printable(self.outcome, 40)
        return printable(self.state, 40)


class Asked(NamedTuple):
    """What is waited for, beyond what is wanted now: a generation or a later one, or a document that may not be read yet."""

    generation: int = 0
    digest: str = ""


class Judged(NamedTuple):
    """The answer and why it is that, in words safe to print; empty where there is nothing to say."""

    verdict: Verdict
    why: str


#: Nothing but what is wanted now.
_WANTED_NOW: Final = Asked()


def judged(vm: Stands, asked: Asked = _WANTED_NOW) -> Judged:
    """Whether *vm* is what its document says, which is in force, answered for and with nothing of it under way."""
    waits = _quarrel(vm) or _document(vm, asked) or _answer(vm, asked) or _items(vm) or _presence(vm)
    return Judged(Verdict.READY, "") if waits is None else Judged(waits.verdict, printable(waits.why, _WHY))


def of_document(vm: Stands) -> Verdict:
    """The same of its document alone: a guest that is what it should be may be away (`ledger.census` counts by this)."""
    waits = _quarrel(vm) or _document(vm, _WANTED_NOW) or _answer(vm, _WANTED_NOW) or _items(vm)
    return Verdict.READY if waits is None else waits.verdict


def _quarrel(vm: Stands) -> Judged | None:
    if vm.quarrel or vm.state in _NEEDS_A_PERSON:
        return _failed(vm.detail or vm.state)
    return None


def _document(vm: Stands, asked: Asked) -> Judged | None:
    if asked.digest and vm.digest_wanted != asked.digest:
        return _waiting("this document has not been picked up yet" + (f": {vm.document_error}" if vm.document_error else ""))
    if vm.state == State.REMOVED:
        return _failed(vm.detail or "there is no document for it")
    if vm.document_error:
        return _failed(vm.document_error)
    if not vm.digest_wanted:
        return _waiting("no document has been read for it yet")
    return None


def _answer(vm: Stands, asked: Asked) -> Judged | None:
    """Whether what is wanted was sent, and what the guest has answered."""
    if vm.reprovision:
        return _waiting(_because("to be applied again", vm))
    sent_is_wanted = vm.digest_sent == vm.digest_wanted and vm.generation_wanted in (None, vm.generation_sent)
    if not sent_is_wanted:
        return _waiting(vm.detail or "to be sent")
    if vm.is_answered_badly:
        return _failed(_of_answer(vm))
    if not vm.generation_sent == vm.generation_items == vm.generation_applied > 0:
        return _waiting(vm.detail or "the guest is at work")
    if vm.generation_applied < asked.generation:
        return _waiting(_because(f"generation {vm.generation_applied} is in force, not {asked.generation}", vm))
    return None


def _items(vm: Stands) -> Judged | None:
    """What is wanted is in force; whether all of it is well, and done."""
    if vm.failed:
        return _failed(vm.failed)
    if vm.pending:
        return _waiting(f"{vm.pending}: pending")
    return _failed(DEGRADED) if vm.state == State.DEGRADED else None


def _presence(vm: Stands) -> Judged | None:
    """All of it is well; whether its guest is there."""
    return None if vm.state == State.READY else _waiting(vm.detail or vm.state)


def _of_answer(vm: Stands) -> str:
    """As `answer.why` says it: of the whole, else of the first item that failed."""
    whole = ": ".join(part for part in (vm.path, vm.reason, vm.result_detail) if part)
    return (vm.failed or whole or vm.outcome) if not vm.reason else whole


def _because(what: str, vm: Stands) -> str:
    return f"{what}: {vm.detail}" if vm.detail else what


def _waiting(why: str) -> Judged:
    return Judged(Verdict.WAITING, why)


def _failed(why: str) -> Judged:
    return Judged(Verdict.FAILED, why)
