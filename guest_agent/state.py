# SPDX-License-Identifier: Apache-2.0
"""What is in force, and the directory that remembers it across crashes."""

from __future__ import annotations

import errno
import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent import files
from guest_agent.directories import make_directories
from pv_channel import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.system import System

DIRECTORY: Final = "/var/lib/pv-guest-agent"
STATE: Final = "state.json"
JOURNAL: Final = "journal.json"
#: The journal holds whole old files, in base64: hosts, interfaces, and each user's keys. A larger one is not begun.
MAX_BYTES: Final = 32 * 1024 * 1024
#: Only root reads what users' files held.
_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Which document: the instance, the generation, and the digest of what it says."""

    instance_id: str
    generation: int
    digest: str


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document in force, what became of its items, and what each of them made ours: paths and digests.

    *late* are the items that were pending when the document was answered and are not any more.
    """

    target: Target
    result: messages.Result
    owned: dict[str, dict[str, str]] = {}
    late: list[str] = []

    @property
    def pending(self) -> bool:
        """Whether it is not known yet what becomes of some item."""
        return any(item.outcome is messages.Outcome.PENDING for item in self.result.items)

    def knowing(self, news: dict[str, messages.ItemResult]) -> State:
        """The same with *news* of items, by their names."""
        items = [news.get(item.item, item) for item in self.result.items]
        result = msgspec.structs.replace(self.result, items=items)
        return msgspec.structs.replace(self, result=result, late=sorted({*self.late, *news}))

    def report(self) -> messages.Report | None:
        """Those items that are pending, or were when the document was answered; None where there are none."""
        items = [item for item in self.result.items if item.outcome is messages.Outcome.PENDING or item.item in self.late]
        return messages.Report(self.target.generation, items) if items else None


class Busy(Exception):  # noqa: N818  a state of affairs, no fault
    """Another agent of this machine is at work."""


class Store:
    """The state directory of *system*. Reading never makes it; `OSError` comes out of everything here."""

    def __init__(self, system: System) -> None:
        self._system = system

    def read(self, name: str) -> bytes | None:
        """The file *name*, None where there is none."""
        stored = self._system.read(f"{DIRECTORY}/{name}", MAX_BYTES)
        return None if stored is None else stored.content

    def write(self, name: str, content: bytes) -> None:
        """Make *name* hold *content*, durably and for root only."""
        with self._system.directory(DIRECTORY) as opened:
            files.replace(opened, name, files.new_file(content, _MODE))

    def remove(self, name: str) -> None:
        """Remove *name* and what a killed `write` of it left, durably."""
        with self._system.directory(DIRECTORY) as opened:
            files.sweep(opened, name)
            files.remove(opened, name)

    def sweep(self) -> None:
        """Remove what a killed `write` left; raise `OSError`."""
        with self._system.directory(DIRECTORY) as opened:
            for name in (STATE, JOURNAL):
                files.sweep(opened, name)

    def has_traces(self) -> bool:
        """Whether a document was ever begun here."""
        names = (STATE, JOURNAL)
        return any(map(self.exists, (*names, *map(files.TEMPORARY.format, names))))

    def set_aside(self, name: str) -> str:
        """Keep a damaged file for a person to look at, out of the way; its new path."""
        content = self.read(name) or b""
        self.write(f"{name}.damaged", content)
        self.remove(name)
        return f"{DIRECTORY}/{name}.damaged"

    def exists(self, name: str) -> bool:
        """Whether *name* is there."""
        return self._system.exists(f"{DIRECTORY}/{name}")

    def make(self) -> None:
        """Make the directory where it is missing."""
        make_directories(self._system, DIRECTORY, _DIRECTORY_MODE)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only agent that changes this machine; raise `Busy`. A killed agent's lock is gone with it (flock(2))."""
        with self._system.directory(DIRECTORY) as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                if exc.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                    raise Busy("another pv-guest-agent is changing this machine") from None
                raise
            yield  # closing the directory unlocks it

    def state(self) -> State | None:
        """What is in force, None where nothing is; raise `ValueError` where the file is damaged."""
        raw = self.read(STATE)
        return None if raw is None else msgspec.json.decode(raw, type=State)
