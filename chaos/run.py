# SPDX-License-Identifier: Apache-2.0
"""One run: all guests become what they should, then everything happens to them, and then they must be what they should again."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from chaos.documents import Directory, Documents
from chaos.etcd import Etcd
from chaos.herd import Herd, name_of
from chaos.judge import faults_of, in_force, record
from chaos.nursery import guest_home
from chaos.script import RESTARTS_UNTIL, script
from chaos.service import Service
from chaos.troubles import Troubles
from host_agent.views.verdict import Verdict, judged

if TYPE_CHECKING:
    from pathlib import Path

#: For all guests to become what they should, at first and in the end. A guest that refuses is greeted every half minute.
CONVERGE_SECONDS: Final = 300.0
TELL_SECONDS: Final = 10.0
#: The service's memory may grow by so much between its warm-up and the end: an allocator's slack, and SQLite's cache.
MEMORY_SLACK: Final = 12 * 1024 * 1024
_MIB: Final = 1024 * 1024


class Summary(NamedTuple):
    """What there is to say of a run, and what was wrong: nothing, in a good one."""

    text: list[str]
    faults: list[str]


class Run:
    """Of *guests* guests for *seconds* by *seed*, with all that it needs below *work*; with *etcd*, their documents are there."""

    def __init__(self, work: Path, seed: int, seconds: float, guests: int, *, etcd: bool) -> None:
        self._work, self._seconds, self._count = work, seconds, guests
        self._events = script(seed, seconds, guests, etcd=etcd)
        self._etcd = Etcd(work) if etcd else None
        self._service = Service(work, *(["--fleet", str(self._etcd.fleet)] if self._etcd else []))
        self._documents = Documents(self._etcd or Directory(self._service.documents), guests)
        self._herd = Herd(work, self._service.sockets, guests)
        self._troubles = Troubles(self._herd, self._documents, self._service, self._etcd, random.Random(f"words {seed}"))
        self._began = self._told = time.monotonic()
        self._warm = self._done = 0
        self._faults: list[str] = []

    def go(self) -> Summary:
        """All of it; what was started is ended whatever happens."""
        try:
            self._herd.begin()
            if self._etcd is not None:
                self._etcd.start()
            for number in range(self._count):
                self._documents.change(number)
            self._service.start()
            first = self._converge("to become what they should")
            if not self._faults:
                self._have_it_happen()
            self._troubles.end()
            if self._etcd is not None:
                self._etcd.write()
            for number in range(self._count):
                self._herd.relieve(number)
            last = self._converge("to be what they should again")
            return self._summary(first, last)
        finally:
            self._service.kill()
            self._herd.end()
            if self._etcd is not None:
                self._etcd.kill()

    def _have_it_happen(self) -> None:
        """The script, event by event; the service's memory is looked at where it is restarted no more."""
        self._began = self._told = time.monotonic()
        warm_at = self._seconds * (RESTARTS_UNTIL + (1 - RESTARTS_UNTIL) / 3)
        for event in self._events:
            self._wait_until(self._began + event.at)
            if not self._warm and event.at >= warm_at:
                self._warm = self._service.resident()
            self._troubles.do(event)
            self._done += 1
            self._tell()
        self._wait_until(self._began + self._seconds)
        self._warm = self._warm or self._service.resident()

    def _wait_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            self._tell()

    def _converge(self, to_do: str) -> float:
        """Wait until every guest is what it should be; how long that took."""
        began = time.monotonic()
        while time.monotonic() - began < CONVERGE_SECONDS:
            if not self._behind():
                return time.monotonic() - began
            time.sleep(0.5)
            self._tell()
        behind = self._behind()
        self._faults.append(f"{len(behind)} VMs had {CONVERGE_SECONDS:g} s {to_do}, and {behind[0]}")
        return CONVERGE_SECONDS

    def _behind(self) -> list[str]:
        """Who is not yet what it should be, by the ledger or by its own disk, and why."""
        stands = {vm.name: vm for vm in self._service.stands()}
        behind = []
        for number in range(self._count):
            name, digest = name_of(number), self._documents.digests[number]
            vm = stands.get(name)
            if vm is None:
                behind.append(f"{name} is not in the ledger")
            elif judged(vm).verdict is not Verdict.READY or vm.digest_wanted != digest:
                behind.append(f"{name}: {vm.state}, {judged(vm).why or 'another document is in force'}")
            elif in_force(guest_home(self._work, number)) != (vm.generation_applied, digest, self._documents.content(number)):
                behind.append(f"{name}: its disk has another generation than {vm.generation_applied} of the ledger")
        return behind

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            print(
                f"{now - self._began:5.0f} s  {self._done} of {len(self._events)} events, {self._documents.changes} documents;"
                f" {self._service.ready()} of {self._count} VMs ready; the service: {self._service.starts} starts,"
                f" {self._service.resident() // _MIB} MiB",
                flush=True,
            )

    def _summary(self, first: float, last: float) -> Summary:
        at_end = self._service.resident()
        if at_end > self._warm + MEMORY_SLACK:
            self._faults.append(f"the service grew from {self._warm // _MIB} to {at_end // _MIB} MiB")
        fault = self._service.kill()
        records = [record(guest_home(self._work, number)) for number in range(self._count)]
        for number, entries in enumerate(records):
            self._faults += [f"{name_of(number)}: {fault}" for fault in faults_of(entries)]
        self._faults += [*filter(None, [fault]), *self._troubles.faults, *self._herd.faults, *self._service.faults()]
        applied = sum(entry.what != "begins" for entries in records for entry in entries)
        cut_short = sum(entry.what == "begins" for entries in records for entry in entries) - applied
        happened = Counter(event.what for event in self._events)
        log = self._service.log.stat().st_size
        text = [
            ", ".join(f"{count} {what}" for what, count in happened.most_common()),
            f"{self._count} guests: {first:.0f} s to become what they should at first, {last:.0f} s after it was over",
            f"{self._documents.changes} documents, {applied} generations applied, {cut_short} cut short",
            f"the service: {self._service.starts} starts, {log / _MIB:.1f} MiB of log",
            f"its memory: {self._warm / _MIB:.1f} MiB warm, {at_end / _MIB:.1f} MiB at the end",
        ]
        return Summary(text, self._faults)
