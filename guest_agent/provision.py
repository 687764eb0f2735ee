# SPDX-License-Identifier: Apache-2.0
"""Bring a document into force, or leave everything as it was and say why."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.state import JOURNAL, STATE, Busy, State, Store, Target
from pv_channel import messages
from pv_channel.messages import MAX_DETAIL, Hello, ItemResult, Outcome, Result
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from guest_agent.actions.plan import Planned
    from guest_agent.failure import ItemError
    from guest_agent.system import System
    from guest_agent.transaction import RolledBack
    from pv_channel.document import Document

    #: Tells the host that a change of the network wants its word, and waits for that; raises `ItemError` where that is no.
    Confirming = Callable[[messages.Unconfirmed], None]


#: Why the host did not confirm a change of the network, and what then is so.
_OF_THE_HOST: Final = ("unconfirmed", "rejected")
_BACK: Final = "the previous configuration is back"
#: What an item in force can be said to be without another look; the others are said again as they were.
_DONE: Final = (Outcome.APPLIED, Outcome.UNCHANGED)


class Provisioner:
    """What makes the machine of *system* what documents say, one generation after another."""

    def __init__(self, system: System, agent_version: str, *, hand_off: bool = False) -> None:
        self._system, self._version, self._hand_off = system, agent_version, hand_off
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

    @property
    def pending(self) -> bool:
        """Whether something of the document in force is still under way, so that `late` is worth asking."""
        return self._state is not None and self._state.pending

    def late(self) -> messages.Report | None:
        """What has become of pending items by now, once on record; None while nothing is news. Raises no `OSError`."""
        if self._state is None or not self._state.pending:
            return None
        from guest_agent.late import news

        target = self._state.target
        try:
            if not news(self._system, self._state):
                return None
            with self._store.lock():
                state = self._load()
                if state is None or state.target != target:
                    return None
                known = {item.item: item for item in news(self._system, state)}
                state = state.knowing(known)
                self._store.write(STATE, msgspec.json.encode(state))
                self._state = state
        except (OSError, Busy):  # and asked again
            return None
        return messages.Report(target.generation, list(known.values())) if known else None

    def report(self) -> messages.Report | None:
        """For a host that may not know it: what is in force and was not done when it was answered."""
        state = self._in_force()
        return None if state is None else state.report()

    def recover(self) -> str | None:
        """Put the old configuration back where a crash left it half; what was done, for the log. Raises no `OSError`.

        What cannot be put back now is said, and tried again before anything else is provisioned.
        """
        try:
            sentences, _ = self._recover()
        except (OSError, Busy) as exc:
            sentences = [f"what an earlier start left cannot be looked at: {exc}"]
        return printable("; ".join(sentences), 4 * MAX_DETAIL) if sentences else None

    def provision(
        self, raw: bytes, vm_uuid: str | None, progress: Callable[[int, str], None], confirming: Confirming | None = None
    ) -> Result:
        """Make this machine be what the document *raw* says, all of it or nothing. No bytes and no `OSError` make it raise.

        *progress* is called with the generation before each item, *confirming* where the network of a running machine was
        changed (None: nobody is asked); what they raise is raised on, when all is rolled back.
        """
        from pv_channel.document import parse  # loaded here: the start does without
        from pv_channel.errors import BadDocument

        began = self._system.now()
        try:
            document = parse(raw)
            refusal = self._refusal(document, vm_uuid)
            result = self._try(document, progress, confirming) if refusal is None else refusal
        except BadDocument as exc:
            result = refused(0, "bad-document", exc.problem, exc.path)
        return msgspec.structs.replace(result, milliseconds=max(int((self._system.now() - began) * 1000), 0))

    def plan(self, raw: bytes, vm_uuid: str | None, limit: int | None = None) -> messages.Planned:
        """What the document *raw* would change, for people. Nothing is touched, and no bytes and no `OSError` make it raise.

        *limit* is how many bytes of that there may be; by default, as many as a message holds.
        """
        from guest_agent.actions.planning import plan_all
        from guest_agent.preview import MAX_STEPS_BYTES, preview
        from pv_channel.document import parse
        from pv_channel.errors import BadDocument

        try:
            document = parse(raw)
            refusal = self._refusal(document, vm_uuid)
            known = self._known(document) if refusal is None else refusal
        except BadDocument as exc:
            known = refused(0, "bad-document", exc.problem, exc.path)
        except OSError as exc:
            known = refused(0, "io-error", f"the state cannot be read: {exc}")
        if known is not None and known.outcome is Outcome.REFUSED:
            return messages.Planned(known.generation, reason=known.reason, path=known.path, detail=known.detail)
        planning = plan_all(document, self._system, self._state, hand_off=self._hand_off)
        return preview(planning, _target(document).generation, self._system, MAX_STEPS_BYTES if limit is None else limit)

    def _refusal(self, document: Document, vm_uuid: str | None) -> Result | None:
        """Why the document is not for this machine at all."""
        generation = 0 if document.generation is msgspec.UNSET else document.generation
        if not generation:
            return refused(0, "no-generation", "a document that is sent has a generation; 'pv-host-agent' counts them")
        if vm_uuid is not None and document.uuid is not msgspec.UNSET and document.uuid != vm_uuid.lower():
            return refused(generation, "wrong-vm", f"the document is for VM {document.uuid}, this is {vm_uuid}", "uuid")
        return None

    def _try(self, document: Document, progress: Callable[[int, str], None], confirming: Confirming | None) -> Result:
        from guest_agent.failure import of_os_error

        generation = _target(document).generation
        try:
            return self._locked(document, progress, confirming)
        except Busy as exc:
            return Result(generation, Outcome.FAILED, reason="busy", detail=str(exc))
        except OSError as exc:
            error = of_os_error(exc, f"use {exc.filename or 'the state directory'}")
            return Result(generation, Outcome.FAILED, reason=error.reason, detail=error.detail)

    def _locked(self, document: Document, progress: Callable[[int, str], None], confirming: Confirming | None) -> Result:
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
            return self._become(document, progress, confirming) if known is None else known

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
        items = [item if item.outcome not in _DONE else ItemResult(item.item, Outcome.UNCHANGED, detail=item.detail)
                 for item in state.result.items]  # fmt: skip
        return Result(generation, Outcome.UNCHANGED, items, self._host_keys())

    def _become(self, document: Document, progress: Callable[[int, str], None], confirming: Confirming | None) -> Result:
        from guest_agent.actions.planning import plan_all
        from guest_agent.transaction import RolledBack, Transaction

        target = _target(document)
        plans, failures = plan_all(document, self._system, self._state, hand_off=self._hand_off)
        if failures:
            return self._answer(target, Outcome.FAILED, _failed_items(plans, failures))
        items = [ItemResult(plan.item, _outcome(plan), detail=plan.detail) for plan in plans]
        changed = any(plan.changes for plan in plans)
        outcome = Outcome.APPLIED if changed else Outcome.UNCHANGED
        owned = {} if self._state is None else dict(self._state.owned)
        owned |= {plan.item: plan.owned for plan in plans}
        state = State(target, Result(target.generation, outcome, items), {item: paths for item, paths in owned.items() if paths})

        def confirm() -> None:
            if confirming is not None and document.confirm.check != "none":
                self._confirm(plans, document, confirming)

        try:
            Transaction(self._system, self._store, state).run(plans, lambda item: progress(target.generation, item), confirm)
        except RolledBack as exc:
            return self._rolled_back(target, plans, exc)
        self._state = state
        self._start_afterwards(plans)
        return self._answer(target, outcome, items)

    def _confirm(self, plans: list[Planned], document: Document, confirming: Confirming) -> None:
        """Have the host's word on the network, where it was changed under somebody's feet. The look takes of the time for it."""
        reach = next((plan.plan.reach for plan in plans if plan.plan.reach is not None and plan.changes), None)
        if reach is not None and self._system.live:
            from guest_agent.reach import look

            within, began = document.confirm.within, self._system.now()
            checks = look(self._system, reach, within / 2 if document.confirm.check == "guest" else 0)
            left = max(int(within - (self._system.now() - began)), 1)
            confirming(messages.Unconfirmed(_target(document).generation, left, checks))

    def _start_afterwards(self, plans: list[Planned]) -> None:
        """Start what follows a generation that is in force; its failure is seen in what it was to do."""
        from guest_agent.command import CommandError

        for command in [command for plan in plans if plan.changes for command in plan.plan.afterwards]:
            if self._system.live:
                with suppress(CommandError):
                    self._system.run(command)

    def _rolled_back(self, target: Target, plans: list[Planned], exc: RolledBack) -> Result:
        items = _failed_items(plans, {} if exc.item is None else {exc.item: exc.cause})
        answer = self._answer(target, Outcome.FAILED, items)
        said = [_BACK] * (exc.restored and exc.cause.reason in _OF_THE_HOST) + [exc.cause.detail] * (exc.item is None)
        detail = printable("; ".join(said + exc.notes), MAX_DETAIL)
        if not exc.restored:
            return msgspec.structs.replace(answer, reason="rollback-failed", detail=detail)
        if exc.item is None:
            return msgspec.structs.replace(answer, reason=exc.cause.reason, detail=detail)
        return msgspec.structs.replace(answer, detail=detail)

    def _answer(self, target: Target, outcome: Outcome, items: list[ItemResult]) -> Result:
        return Result(target.generation, outcome, items, self._host_keys())

    def facts(self) -> messages.Facts:
        """What dom0 is told of this machine, as it is now. Raises no `OSError`."""
        from guest_agent.facts import facts

        return facts(self._system, self._host_keys())

    def _host_keys(self) -> list[str]:
        """This machine's ssh host keys; none where cloud-init is still to make others."""
        from guest_agent.host_keys import host_keys

        if self._hand_off and (self._state is None or self._state.pending):
            return []
        return host_keys(self._system)

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
        if not self._store.has_traces():
            return [], True
        with self._store.lock():
            return self._recover_locked()

    def _recover_locked(self) -> tuple[list[str], bool]:
        sentences = []
        self._store.sweep()
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


def _outcome(plan: Planned) -> Outcome:
    """What becomes of an item when all goes well."""
    if plan.plan.pending:
        return Outcome.PENDING
    return Outcome.APPLIED if plan.changes else Outcome.UNCHANGED


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
