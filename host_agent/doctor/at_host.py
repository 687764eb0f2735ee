# SPDX-License-Identifier: Apache-2.0
"""Look at dom0's own side: who serves, and whether its keys, its ledger, its directories, its disk and its limits can be used."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent import keys
from host_agent.channels.processes import PROC, Process, holders
from host_agent.doctor.evidence import Dom0
from host_agent.errors import BadFile, shown
from host_agent.files import others_may_use, others_may_write
from host_agent.ledger.schema import BUSY_SECONDS, FILE_NAME, trouble
from host_agent.serve_lock import NAME as LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from host_agent.doctor.evidence import FleetFile

_OPEN_FILES: Final = re.compile(r"^Max open files +([0-9]+) ", re.MULTILINE | re.ASCII)


class Where(NamedTuple):
    """The places of one dom0's service, as `serve` was told them; *xenstore* are its daemon's sockets, none for --no-xenstore."""

    state: Path
    documents: Path
    sockets: tuple[Path, ...]
    channel: str
    xenstore: tuple[Path, ...]
    libvirts: Path
    #: Has the documents in place of the directory.
    fleet: FleetFile | None = None


def look_at_host(where: Where) -> Dom0:
    """What can be seen of it without the ledger's content and without Xen."""
    service = service_of(where.state)
    key_trouble, has_key = _key(where.state)
    return Dom0(
        where.state,
        where.documents,
        where.sockets,
        service=service,
        state_trouble=_state(where.state),
        key_trouble=key_trouble,
        has_key=has_key,
        ledger_trouble=_ledger(where.state / FILE_NAME),
        documents_trouble=_directory(where.documents) if where.fleet is None else "",
        sockets_trouble=_first_trouble(where.sockets),
        free=_free(where.state),
        descriptors=None if service is None else _descriptors(service.pid),
    )


def service_of(state: Path) -> Process | None:
    """The `serve` on the state directory, which alone has its lock open for longer than an instant; it is not locked to see."""
    lock = str(state.resolve() / LOCK)
    return next(iter(holders([lock])[lock]), None)


def _state(state: Path) -> str:
    try:
        return without_cure(others_may_use(state))
    except OSError as exc:
        return f"{shown(state)}: {exc.strerror}"


def _key(state: Path) -> tuple[str, bool]:
    """Why the host's key cannot be used, and whether there is one."""
    try:
        return "", keys.load(state) is not None
    except BadFile as exc:
        return str(exc), True
    except OSError as exc:
        return f"{shown(exc.filename or state)}: {exc.strerror}", True


def _ledger(path: Path) -> str:
    """Why it cannot be read. SQLite reads all of its pages for that."""
    if not path.exists():
        return ""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as db:
            said = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as exc:
        return str(trouble(path, exc))
    return "" if said == "ok" else f"{shown(path)}: {said}"


def _directory(path: Path) -> str:
    try:
        return without_cure(others_may_write(path))
    except OSError as exc:
        return f"{shown(path)}: {exc.strerror}"


def without_cure(complaint: str | None) -> str:
    """What is wrong alone: the cure of a finding says all that is to be done."""
    return "" if complaint is None else complaint.partition("; cure: ")[0]


def _first_trouble(directories: Iterable[Path]) -> tuple[str, str] | None:
    troubles = ((str(directory), _directory(directory)) for directory in directories)
    return next((each for each in troubles if each[1]), None)


def _free(state: Path) -> int | None:
    try:
        status = os.statvfs(state)
    except OSError:
        return None
    return 0 if status.f_files and not status.f_favail else status.f_bavail * status.f_frsize


def _descriptors(pid: int) -> int | None:
    """How many files the process may have open."""
    try:
        matched = _OPEN_FILES.search((PROC / str(pid) / "limits").read_text("ascii"))
    except OSError:
        return None
    return int(matched[1]) if matched else None
