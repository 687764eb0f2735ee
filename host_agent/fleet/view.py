# SPDX-License-Identifier: Apache-2.0
"""The whole fleet as etcd has it at one moment: every VM that has a document or was ever served, and every dom0 that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from host_agent.documents.directory import MAX_NAME
from host_agent.fleet.layout import DOCUMENTS
from host_agent.fleet.report import Presence, Report, decode, presence
from host_agent.views.vm_values import ago, iso
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from host_agent.etcd.client import Etcd
    from host_agent.etcd.wire import Range
    from host_agent.fleet.layout import Layout

#: Where a VM stands that no dom0 serves now.
NOWHERE = "nowhere"
HEADER = ("vm", "dom0", "state", "wanted", "applied", "outcome", "why", "address", "told")
#: What a narrow terminal can do without, the least missed first.
LESS = ("outcome", "address", "wanted", "told", "applied")
DOM0_HEADER = ("dom0", "VMs", "version")
_WHY = 200


class Vm(NamedTuple):
    """A VM by its name: the revision of its document (0: none), how it is or last was, and whether a dom0 serves it now."""

    name: str
    document: int
    report: Report | None
    is_live: bool

    @property
    def standing(self) -> str:
        """Where it stands, in one word."""
        return printable(self.report.standing, 40) if self.is_live and self.report is not None else NOWHERE

    @property
    def why(self) -> str:
        """What is missing until it is as its document says, or ""."""
        if self.report is None:
            return "no dom0 has said yet that it runs there"
        if self.is_live:
            return printable(self.report.why, _WHY)
        by, then = printable(self.report.dom0, 100), printable(self.report.standing, 40)
        return f"no dom0 serves it now; it was {then} at dom0 {by}"

    def values(self) -> dict[str, Any]:
        """For JSON, everything in it printable."""
        known = {} if self.report is None else _printable(msgspec.to_builtins(self.report))
        mine = {"vm": self.name, "standing": self.standing, "why": self.why, "live": self.is_live, "document": self.document}
        return {**known, **mine, "time": "" if self.report is None else iso(self.report.time)}

    def row(self, now: float) -> tuple[str, ...]:
        """Under `HEADER`."""
        report = self.report
        if report is None:
            return (self.name, "", NOWHERE, "", "", "", self.why, "", "never")
        return (
            self.name, printable(report.dom0, 100) if self.is_live else "", self.standing, str(report.generation_wanted or "new"),
            str(report.generation_applied or "-"), printable(report.outcome, 40), self.why, printable(report.address, 64),
            ago(now - report.time),
        )  # fmt: skip


class Seen(NamedTuple):
    """All VMs by name, the dom0s that are there, and the last revision of what lies below documents."""

    vms: list[Vm]
    dom0s: dict[str, Presence]
    shared: int


async def look(etcd: Etcd, layout: Layout) -> Seen:
    """The fleet as it is now; raise one of `EtcdError`."""
    documents, defaults, groups = layout.written
    found = await etcd.read(documents, keys_only=True)
    at = found.revision
    names = {layout.name(kv.key): kv.mod_revision for kv in found.kvs}
    wanted = {name.removeprefix(f"{DOCUMENTS}/"): revision for name, revision in names.items() if name is not None}
    below = [kv for part in (defaults, groups) for kv in (await etcd.read(part, at, keys_only=True)).kvs]
    live = await _reports(etcd, layout.vms, at)
    last = await _reports(etcd, layout.lasts, at)
    there = [presence(kv.value) for kv in (await etcd.read(layout.dom0s, at)).kvs]
    return Seen(
        _vms(wanted, live, last),
        {dom0.dom0: dom0 for dom0 in there if dom0 is not None},
        max((kv.mod_revision for kv in below), default=0),
    )


def dom0_rows(dom0s: Iterable[Presence]) -> list[tuple[str, ...]]:
    """A row for each, under `DOM0_HEADER`."""
    return [(printable(each.dom0, 100), str(each.vms), printable(each.version, 40)) for each in dom0s]


def item_rows(report: Report) -> list[tuple[str, ...]]:
    """A row for each item of a VM's document."""
    return [(printable(i.item, 40), printable(i.outcome, 40), printable(i.reason, 40), printable(i.detail, 500))
            for i in report.items]  # fmt: skip


async def _reports(etcd: Etcd, part: Range, at: int) -> list[Report]:
    read = [decode(kv.value) for kv in (await etcd.read(part, at)).kvs]
    return [report for report in read if report is not None]


def _vms(wanted: dict[str, int], live: list[Report], last: list[Report]) -> list[Vm]:
    """By name; of several reports under one name, as of a VM that was made anew, the live one counts, and else the latest."""
    found: dict[str, Vm] = {name: Vm(name, revision, None, is_live=False) for name, revision in wanted.items()}
    for report in sorted(last, key=lambda report: report.time):
        name = printable(report.vm, MAX_NAME)
        if name in wanted or not report.is_removed:
            found[name] = Vm(name, wanted.get(name, 0), report, is_live=False)
    for report in live:
        name = printable(report.vm, MAX_NAME)
        found[name] = Vm(name, wanted.get(name, 0), report, is_live=True)
    return [found[name] for name in sorted(found)]


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _printable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return printable(value, 500) if isinstance(value, str) else value
