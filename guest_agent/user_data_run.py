# SPDX-License-Identifier: Apache-2.0
"""What is kept of user-data's scripts: which are to run, which one runs, how they ended.

Each file is durable before the next step. ``run.json`` is written by the generation that brings the scripts, ``begun.json``
before each script starts, ``result.json`` when the last has ended. A ``begun.json`` without its result is a run that was cut
off, and no script starts a second time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import files
from guest_agent.state import DIRECTORY as STATE_DIRECTORY
from guest_agent.state import Target
from pv_channel.messages import ItemResult, Log, Outcome

if TYPE_CHECKING:
    from guest_agent.system import System

ITEM: Final = "user-data"
DIRECTORY: Final = f"{STATE_DIRECTORY}/user-data"
RUN: Final = "run.json"
BEGUN: Final = "begun.json"
RESULT: Final = "result.json"
SCRIPT: Final = "script-{:02}"
#: The unit that runs them, and how a boot with scripts to run asks for it, as `systemctl enable` would.
UNIT: Final = "pv-user-data.service"
WANTS: Final = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
_MODE: Final = 0o600
_MAX_BYTES: Final = 1024 * 1024


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scripts to run: of which document, the digest of its user-data, and their names in their order."""

    target: Target
    digest: str
    scripts: list[str]


class Ended(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one script ended: its status (negative: by that signal), or why it has none; and its last lines."""

    status: int | None
    problem: str
    log: Log


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a run is: of *total* scripts these ended; *interrupted* in the next one."""

    target: Target
    digest: str
    total: int
    ended: list[Ended] = []
    interrupted: bool = False

    def item(self) -> ItemResult:
        """The result for the host."""
        which = f"script {len(self.ended) + 1} of {self.total}"
        if self.interrupted:
            detail = f"the machine or the agent stopped in {which}; a script runs once, so it is not tried again"
            return ItemResult(ITEM, Outcome.FAILED, "interrupted", detail)
        bad = [(number, ended) for number, ended in enumerate(self.ended, 1) if ended.status != 0]
        if bad:
            number, ended = bad[0]
            more = f"; {len(bad) - 1} more failed" if len(bad) > 1 else ""
            how = ended.problem or f"ended with status {ended.status}"
            return ItemResult(ITEM, Outcome.FAILED, "command-failed", f"script {number} of {self.total} {how}{more}", ended.log)
        count = f"{self.total} script{'' if self.total == 1 else 's'} ended with status 0"
        return ItemResult(ITEM, Outcome.APPLIED, detail=count, log=self.ended[-1].log if self.ended else [])


def load_run(system: System) -> Run | None:
    """The scripts to run; None where there are none. Raise `OSError`, `ValueError`."""
    raw = _read(system, RUN)
    return None if raw is None else msgspec.json.decode(raw, type=Run)


def load(system: System, name: str) -> Record | None:
    """`BEGUN` or `RESULT`; None where there is none. Raise `OSError`, `ValueError`."""
    raw = _read(system, name)
    return None if raw is None else msgspec.json.decode(raw, type=Record)


def _read(system: System, name: str) -> bytes | None:
    stored = system.read(f"{DIRECTORY}/{name}", _MAX_BYTES)
    return None if stored is None else stored.content


def store(system: System, name: str, record: Record) -> None:
    """Make `BEGUN` or `RESULT` be *record*, durably. Raise `OSError`."""
    with system.directory(DIRECTORY) as opened:
        files.replace(opened, name, files.new_file(msgspec.json.encode(record), _MODE))


def clear(system: System) -> None:
    """Forget what was to run, scripts and all; the result stays. Raise `OSError`.

    What says that there is something to run goes last: a cut on the way is made up for by the next start.
    """
    parent, _, link = WANTS.rpartition("/")
    with system.directory(DIRECTORY) as opened:
        for name in system.names(DIRECTORY):
            if name not in (RUN, RESULT):
                files.remove(opened, name)
        with suppress(FileNotFoundError), system.directory(parent) as wants:
            files.remove(wants, link)
        files.remove(opened, RUN)


def result(system: System, target: Target) -> ItemResult | None:
    """What became of the scripts of *target*'s instance; None while they have not ended. Raises nothing."""
    with suppress(OSError, ValueError):
        record = load(system, RESULT)
        if record is not None and record.target.instance_id == target.instance_id:
            return record.item()
    return None
