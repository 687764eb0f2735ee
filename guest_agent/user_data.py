# SPDX-License-Identifier: Apache-2.0
"""The verb `user-data`: run the scripts of the generation in force, once in the life of an instance, and record their end."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from guest_agent import VERSION, command, user_data_run
from guest_agent.command import CommandError
from guest_agent.failure import log_tail
from guest_agent.log import Log
from guest_agent.provision import Provisioner
from guest_agent.state import JOURNAL, Busy, Store
from guest_agent.system import System
from guest_agent.user_data_run import BEGUN, DIRECTORY, RESULT, Ended, Record, Run
from pv_channel.messages import Outcome

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

#: What a script may take. What is not done by then waits for something that does not come.
SCRIPT_SECONDS: Final = 3600.0
#: A generation whose network waits for the host's word holds the lock for ten minutes at most.
LOCK_SECONDS: Final = 900.0


def run(arguments: argparse.Namespace) -> int:  # noqa: ARG001  every verb is given them
    """The exit status: 0 where every script ended with 0, or there was none to run."""
    log = Log()
    try:
        return Runner(System(run=partial(command.run, seconds=SCRIPT_SECONDS)), log).run()
    except (OSError, ValueError, Busy) as exc:
        log.fail(f"the scripts of user-data in {DIRECTORY}: {exc}")
        return 1


class Runner:
    """Who runs the scripts of *system*. The lock is held between scripts only: the agent goes on while one runs."""

    def __init__(self, system: System, log: Log) -> None:
        self._system, self._log, self._store = system, log, Store(system)
        self._failed = False

    def run(self) -> int:
        """Run what is to run, and what comes meanwhile; the exit status. Raise `OSError`, `ValueError`, `Busy`."""
        while (scripts := self._take()) is not None:
            self._perform(scripts)
        return int(self._failed)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be alone, waiting for who is not done; raise `Busy` where that takes too long."""
        deadline = self._system.now() + LOCK_SECONDS
        while True:
            try:
                with self._store.lock():
                    yield
                    return
            except Busy:
                if self._system.now() >= deadline:
                    raise
            self._system.sleep(1.0)

    def _take(self) -> Run | None:
        """The scripts to run: those of a generation in force, none of which was ever begun."""
        system = self._system
        if not system.exists(f"{DIRECTORY}/{user_data_run.RUN}"):
            return None
        if self._store.exists(JOURNAL):
            Provisioner(system, VERSION).recover()
        with self._locked():
            scripts = user_data_run.load_run(system)
            if scripts is None or self._store.exists(JOURNAL) or not self._is_in_force(scripts):
                self._log.note("the generation that brings scripts is not in force; they wait for it")
                return None
            ended, begun = user_data_run.load(system, RESULT), user_data_run.load(system, BEGUN)
            if ended is not None and ended.target.instance_id == scripts.target.instance_id:
                user_data_run.clear(system)
                return None
            if begun is not None and begun.target == scripts.target:
                self._end(Record(begun.target, begun.digest, begun.total, begun.ended, interrupted=True))
                return None
        return scripts

    def _is_in_force(self, scripts: Run) -> bool:
        state = self._store.state()
        return (
            state is not None
            and state.target.instance_id == scripts.target.instance_id
            and scripts.target.generation <= state.target.generation
        )

    def _perform(self, scripts: Run) -> None:
        """Run them one after another, whatever becomes of each."""
        record = Record(scripts.target, scripts.digest, len(scripts.scripts))
        for name in scripts.scripts:
            if not self._note(scripts, record):
                return
            ended = self._run(name)
            record = Record(record.target, record.digest, record.total, [*record.ended, ended])
        with self._locked():
            if self._is_current(scripts):
                self._end(record)

    def _note(self, scripts: Run, record: Record) -> bool:
        """Make durable that the next script begins; False where another instance's have taken their place."""
        with self._locked():
            if not self._is_current(scripts):
                self._log.alert("another instance's scripts have come; the rest of the earlier ones do not run")
                return False
            user_data_run.store(self._system, BEGUN, record)
            return True

    def _is_current(self, scripts: Run) -> bool:
        now = user_data_run.load_run(self._system)
        return now is not None and now.target == scripts.target

    def _run(self, name: str) -> Ended:
        path = self._system.file(f"{DIRECTORY}/{name}")
        try:
            status, output = self._system.run([path])
        except CommandError as exc:
            return Ended(None, str(exc).removeprefix(f"{path} "), log_tail(exc.output))
        return Ended(status, "", log_tail(output))

    def _end(self, record: Record) -> None:
        """Make the result durable, then forget the scripts."""
        user_data_run.store(self._system, RESULT, record)
        user_data_run.clear(self._system)
        item = record.item()
        self._failed |= item.outcome is not Outcome.APPLIED
        self._log.note(f"user-data: {item.outcome.value}: {item.detail}")
