# SPDX-License-Identifier: Apache-2.0
"""Bring a document into force, or leave everything as it was and say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent.state import JOURNAL, STATE, Busy, State, Store, Target
from pv_channel.messages import MAX_DETAIL, Hello, ItemResult, Outcome, Result
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from guest_agent.failure import ItemError
    from guest_agent.system import System
    from guest_agent.transaction import Planned, RolledBack
    from pv_channel.document import Document


class Provisioner:
    """What makes the machine of *system* what documents say, one generation after another."""

    def __init__(self, system: System, agent_version: str) -> None:
        self._system, self._version = system, agent_version
        self._store = Store(system)
        self._state: State | None = None
        self._loaded = False

    def hello(self) -> Hello:
        """This agent's version, and the document in force."""
        state = self._in_force()
        if state is None:
            return Hello(self._version)
        target = state.target
        return Hello(self._version, target.generation, target.instance_id, target.digest)

    @property
    def provisioned(self) -> bool:
        """Whether some document is in force."""
        return self._in_force() is not None

    def recover(self) -> str | None:
        """Put the old configuration back where a crash left it half; what was done, for the log. Raises no `OSError`.

        What cannot be put back now is said, and tried again before anything else is provisioned.
        """
        try:
            sentences, _ = self._recover()
        except (OSError, Busy) as exc:
            sentences = [f"what an earlier start left cannot be looked at: {exc}"]
        return printable("; ".join(sentences), 4 * MAX_DETAIL) if sentences else None

    def provision(self, raw: bytes, vm_uuid: str | None, progress: Callable[[int, str], None]) -> Result:
        """Make this machine be what the document *raw* says, all of it or nothing. No bytes and no `OSError` make it raise.

        *progress* is called with the generation before each item; what it raises is raised on, when all is rolled back.
        """
        from pv_channel.document import parse  # loaded here: the start does without
        from pv_channel.errors import BadDocument

        began = self._system.now()
        try:
            result = self._provision(parse(raw), vm_uuid, progress)
        except BadDocument as exc:
            result = refused(0, "bad-document", exc.problem, exc.path)
        return msgspec.structs.replace(result, milliseconds=max(int((self._system.now() - began) * 1000), 0))

    def _provision(self, document: Document, vm_uuid: str | None, progress: Callable[[int, str], None]) -> Result:
        generation = 0 if document.generation is msgspec.UNSET else document.generation
        if not generation:
            return refused(0, "no-generation", "a document that is sent has a generation; 'pv-host-agent' counts them")
        if vm_uuid is not None and document.uuid is not msgspec.UNSET and document.uuid != vm_uuid.lower():
            return refused(generation, "wrong-vm", f"the document is for VM {document.uuid}, this is {vm_uuid}", "uuid")
        from guest_agent.failure import of_os_error

        try:
            return self._locked(document, progress)
        except Busy as exc:
            return Result(generation, Outcome.FAILED, reason="busy", detail=str(exc))
        except OSError as exc:
            error = of_os_error(exc, f"use {exc.filename or 'the state directory'}")
            return Result(generation, Outcome.FAILED, reason=error.reason, detail=error.detail)

    def _locked(self, document: Document, progress: Callable[[int, str], None]) -> Result:
        if not self._store.exists(JOURNAL):
            known = self._known(document)
            if known is not None:
                return known
        self._store.make()
        with self._store.lock():
            sentences, whole = self._recover_locked()
            if not whole:
                detail = printable("; ".join(sentences), MAX_DETAIL)
                return Result(_target(document).generation, Outcome.FAILED, reason="rollback-failed", detail=detail)
            known = self._known(document)
            return self._become(document, progress) if known is None else known

    def _known(self, document: Document) -> Result | None:
        """The answer to a document that is not news: in force already, older, or at odds with the one in force."""
        state = self._load()
        target = _target(document)
        if state is None or state.target.instance_id != target.instance_id or state.target.generation < target.generation:
            return None
        generation = state.target.generation
        if target.generation < generation:
            return refused(target.generation, "generation-old", f"generation {generation} is in force", "generation")
        if target.digest != state.target.digest:
            detail = f"generation {generation} is in force and says something else; a changed document has a new generation"
            return refused(generation, "generation-reused", detail, "generation")
        from guest_agent.host_keys import host_keys

        items = [ItemResult(item.item, Outcome.UNCHANGED, detail=item.detail) for item in state.result.items]
        return Result(generation, Outcome.UNCHANGED, items, host_keys(self._system))

    def _become(self, document: Document, progress: Callable[[int, str], None]) -> Result:
        from guest_agent.actions import plan_all
        from guest_agent.transaction import RolledBack, Transaction

        target = _target(document)
        plans, failures = plan_all(document, self._system)
        if failures:
            return self._answer(target, Outcome.FAILED, _failed_items(plans, failures))
        items = [ItemResult(p.item, Outcome.APPLIED if p.changes else Outcome.UNCHANGED, detail=p.detail) for p in plans]
        changed = any(plan.changes for plan in plans)
        answer = self._answer(target, Outcome.APPLIED if changed else Outcome.UNCHANGED, items)
        state = State(target, msgspec.structs.replace(answer, host_keys=[]))
        try:
            Transaction(self._system, self._store, state).run(plans, lambda item: progress(target.generation, item))
        except RolledBack as exc:
            return self._rolled_back(target, plans, exc)
        self._state = state
        return answer

    def _rolled_back(self, target: Target, plans: list[Planned], exc: RolledBack) -> Result:
        items = _failed_items(plans, {} if exc.item is None else {exc.item: exc.cause})
        answer = self._answer(target, Outcome.FAILED, items)
        detail = printable("; ".join([exc.cause.detail] * (exc.item is None) + exc.notes), MAX_DETAIL)
        if not exc.restored:
            return msgspec.structs.replace(answer, reason="rollback-failed", detail=detail)
        if exc.item is None:
            return msgspec.structs.replace(answer, reason=exc.cause.reason, detail=detail)
        return msgspec.structs.replace(answer, detail=detail)

    def _answer(self, target: Target, outcome: Outcome, items: list[ItemResult]) -> Result:
        from guest_agent.host_keys import host_keys

        return Result(target.generation, outcome, items, host_keys(self._system))

    def _in_force(self) -> State | None:
        """The state as of the last look; one that cannot be read is none, and `recover` says so."""
        if not self._loaded:
            try:
                self._load()
            except OSError:
                return None
        return self._state

    def _load(self) -> State | None:
        try:
            self._state = self._store.state()
        except ValueError:  # damaged: nothing that we know of is in force, and the next one is applied whole
            self._state = None
        self._loaded = True
        return self._state

    def _recover(self) -> tuple[list[str], bool]:
        if not self._store.exists(JOURNAL) and not self._store.exists(STATE):
            return [], True
        with self._store.lock():
            return self._recover_locked()

    def _recover_locked(self) -> tuple[list[str], bool]:
        sentences = []
        try:
            self._state, self._loaded = self._store.state(), True
        except ValueError as exc:
            aside = self._store.set_aside(STATE)
            sentences.append(f"state.json was damaged and was set aside as {aside}; no generation counts as in force: {exc}")
            self._state, self._loaded = None, True
        if not self._store.exists(JOURNAL):
            return sentences, True
        from guest_agent.transaction import recover

        more, whole = recover(self._system, self._store, None if self._state is None else self._state.target)
        return sentences + more, whole


def refused(generation: int, reason: str, detail: str, path: str = "") -> Result:
    """The answer to a document that is not even tried."""
    path, detail = printable(path, MAX_DETAIL), printable(detail, MAX_DETAIL)
    return Result(generation, Outcome.REFUSED, reason=reason, path=path, detail=detail)


def _target(document: Document) -> Target:
    generation = 0 if document.generation is msgspec.UNSET else document.generation
    return Target(str(document.instance_id), generation, document.digest())


def _failed_items(plans: list[Planned], failures: dict[str, ItemError]) -> list[ItemResult]:
    """Each item's part in a failure: at fault, not in force, or untouched because it needed nothing."""
    items = []
    for plan in plans:
        failure = failures.get(plan.item)
        if failure is not None:
            items.append(ItemResult(plan.item, Outcome.FAILED, failure.reason, failure.detail, failure.log))
        else:
            outcome = Outcome.ROLLED_BACK if plan.changes else Outcome.UNCHANGED
            items.append(ItemResult(plan.item, outcome, detail=plan.detail))
    return items
