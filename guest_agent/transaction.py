# SPDX-License-Identifier: Apache-2.0
"""Make all changes or none: a journal before the first, one rename that commits, and the way back from anywhere between.

The journal is durable before anything changes, and so are the second names under which the old files are kept.
The commit is the rename of state.json; a journal whose target is in force by then is only removed. So a kill at any point
leaves, after `recover`, old or new.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from guest_agent.failure import ItemError, of_os_error
from guest_agent.state import JOURNAL, MAX_BYTES, STATE, State, Target
from guest_agent.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guest_agent.actions.plan import Planned
    from guest_agent.state import Store
    from guest_agent.system import System


class Journal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was begun, and how to undo it."""

    target: Target
    undo: list[Undo]


class RolledBack(Exception):  # noqa: N818  says what became of it
    """Nothing of the transaction is in force. *item* is at fault (None: the journal or the state file), because of *cause*.

    *notes* say what did not go as it should on the way back; *restored* is False where a file could not be put back:
    then the journal is still there, and `recover` has to try again.
    """

    def __init__(self, item: str | None, cause: ItemError, notes: list[str], *, restored: bool) -> None:
        super().__init__(str(cause))
        self.item, self.cause, self.notes, self.restored = item, cause, notes, restored


class Transaction:
    """One attempt to bring *state* into force."""

    def __init__(self, system: System, store: Store, state: State) -> None:
        self._system, self._store, self._state = system, store, state
        self._undo: list[Undo] = []
        self._begun = 0
        self._item: str | None = None
        self._before: bytes | None = None
        self._committing = False

    def run(self, plans: list[Planned], before_item: Callable[[str], None], confirm: Callable[[], None]) -> None:
        """Make all of *plans*' changes, check that they hold, have them confirmed, and record the state; or raise `RolledBack`.

        *confirm* raises `ItemError` where they are not, on the account of the item whose reach it is about. What else it and
        *before_item* raise is raised, when everything is back as it was; so is KeyboardInterrupt or SystemExit.
        """
        try:
            self._capture(plans)
            self._write_journal()
            self._keep(plans)
            self._apply(plans, before_item)
            self._verify(plans)
            self._item = next((plan.item for plan in plans if plan.plan.reach is not None), None)
            confirm()
            self._commit()
        except ItemError as exc:
            raise self._roll_back(exc) from None
        except BaseException:
            self._roll_back(ItemError("interrupted", "the agent was interrupted"))
            raise
        with suppress(OSError):  # in force all the same: the next `recover` sees that, and does it
            release_all(self._system, self._undo)
            self._store.remove(JOURNAL)

    def _capture(self, plans: list[Planned]) -> None:
        for plan in plans:
            self._item = plan.item
            for change in plan.changes:
                with _doing(change.describe()):
                    self._undo.append(change.capture(self._system))

    def _write_journal(self) -> None:
        self._item = None
        with _doing("write the journal"):
            self._before = self._store.read(STATE)
            journal = msgspec.json.encode(Journal(self._state.target, self._undo))
            if len(journal) > MAX_BYTES:
                raise ItemError("too-large", f"the files to change do not fit into a journal of {MAX_BYTES} bytes")
            self._store.write(JOURNAL, journal)

    def _keep(self, plans: list[Planned]) -> None:
        """Keep the old files. They are durable before the first of them is replaced."""
        with _doing("keep the files that are to change"):
            undos = iter(self._undo)
            for plan in plans:
                self._item = plan.item
                for undo in islice(undos, len(plan.changes)):
                    undo.prepare(self._system)
            self._item = None
            _sync(self._system, self._undo)

    def _apply(self, plans: list[Planned], before_item: Callable[[str], None]) -> None:
        for plan in plans:
            before_item(plan.item)
            self._item = plan.item
            for change in plan.changes:
                self._begun += 1
                with _doing(change.describe()):
                    change.apply(self._system)

    def _verify(self, plans: list[Planned]) -> None:
        for plan in plans:
            self._item = plan.item
            for change in plan.changes:
                with _doing(change.describe()):
                    if not change.holds(self._system):
                        raise ItemError("not-in-force", f"{change.describe()}: done, but something else has undone it")

    def _commit(self) -> None:
        self._item = None
        self._committing = True
        with _doing("record the new state"):
            self._store.write(STATE, msgspec.json.encode(self._state))

    def _roll_back(self, cause: ItemError) -> RolledBack:
        """Undo what was begun. Before that, state.json is the old one again: it may have been renamed and not made durable."""
        try:
            if self._committing:
                self._restore_state()
        except OSError as exc:
            note = of_os_error(exc, "put the old state.json back").detail
            return RolledBack(self._item, cause, [note], restored=False)
        notes, restored = undo_all(self._system, self._undo[: self._begun])
        if restored:
            try:
                release_all(self._system, self._undo)
                self._store.remove(JOURNAL)
            except FileNotFoundError:
                pass  # no state directory: nothing was written into it
            except OSError as exc:
                notes.append(of_os_error(exc, "remove the journal").detail)
                restored = False
        return RolledBack(self._item, cause, notes, restored=restored)

    def _restore_state(self) -> None:
        if self._before is None:
            self._store.remove(STATE)
        else:
            self._store.write(STATE, self._before)


@contextmanager
def _doing(what: str) -> Iterator[None]:
    """Inside, an `OSError` becomes the `ItemError` that says what was being done."""
    try:
        yield
    except OSError as exc:
        raise of_os_error(exc, what) from None


def undo_all(system: System, undos: list[Undo]) -> tuple[list[str], bool]:
    """Undo in reverse order, as much as can be: notes for the log, and whether every file is what it was."""
    notes: list[str] = []
    restored = True
    for undo in reversed(undos):
        try:
            note = undo.undo(system)
        except OSError as exc:
            note, restored = of_os_error(exc, f"put back {getattr(undo, 'path', 'what was changed')}").detail, False
        if note:
            notes.append(note)
    return notes, restored


def release_all(system: System, undos: list[Undo]) -> None:
    """Forget durably what was kept for going back; raise `OSError`."""
    for undo in undos:
        undo.release(system)
    _sync(system, undos)


def _sync(system: System, undos: list[Undo]) -> None:
    for directory in dict.fromkeys(undo.directory for undo in undos):
        if directory and system.exists(directory):
            with system.directory(directory) as opened:
                os.fsync(opened)


def recover(system: System, store: Store, in_force: Target | None) -> tuple[list[str], bool]:
    """Finish or undo what the journal says was begun: sentences for the log, and whether all is well. Raise `OSError`."""
    raw = store.read(JOURNAL)
    if raw is None:
        return [], True
    try:
        journal = msgspec.json.decode(raw, type=Journal)
    except ValueError as exc:
        return [f"the journal is damaged and was set aside as {store.set_aside(JOURNAL)}: {exc}"], True
    target = journal.target
    name = f"generation {target.generation} of instance {target.instance_id}"
    if target == in_force:
        release_all(system, journal.undo)
        store.remove(JOURNAL)
        return [f"{name} was in force already when the agent was stopped"], True
    notes, restored = undo_all(system, journal.undo)
    if restored:
        release_all(system, journal.undo)
        store.remove(JOURNAL)
        return [f"{name} was not applied whole when the agent was stopped; the old configuration is back", *notes], True
    return [f"{name} was not applied whole, and the old configuration cannot be put back yet", *notes], False
