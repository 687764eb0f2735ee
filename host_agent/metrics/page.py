# SPDX-License-Identifier: Apache-2.0
"""All that is measured, as the text that Prometheus reads. Whoever asks again and again gets the same page, for a second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from host_agent.errors import LedgerTrouble
from host_agent.metrics.of_fleet import of_fleet
from host_agent.metrics.of_ledger import of_ledger
from host_agent.metrics.of_streams import of_streams
from host_agent.metrics.of_vms import of_each_vm, of_vms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from host_agent.served import Dom0

    Part = Callable[[], Iterable[Metric]]

_T = TypeVar("_T")

#: Who asks more often learns nothing new, and costs nothing more.
FRESH_SECONDS: Final = 1.0


def parts(dom0: Dom0) -> list[Part]:
    """What is measured of that which all VMs share; what more there is to measure has a line of its own here."""
    return [
        lambda: of_vms(dom0.ledger.census()),
        lambda: of_streams(dom0.batch.counts, dom0.ledger.dropped),
        lambda: of_ledger(dom0.ledger, dom0.batch),
        lambda: of_fleet(dom0.membership.health),
    ]


class Page:
    """Of *dom0* and of its process; with *per_vm*, of every VM by itself, too."""

    def __init__(self, dom0: Dom0, of_process: Part, *, per_vm: bool) -> None:
        self._ledger, self._parts, self._per_vm = dom0.ledger, [*parts(dom0), of_process], per_vm
        self._loop = asyncio.get_running_loop()
        self._text, self._fresh_until = b"", 0.0
        self._one_at_a_time = asyncio.Lock()

    async def text(self) -> bytes:
        """As of now, or of a moment ago."""
        async with self._one_at_a_time:
            if self._loop.time() >= self._fresh_until:
                self._text = await self._make()
                self._fresh_until = self._loop.time() + FRESH_SECONDS
        return self._text

    async def _make(self) -> bytes:
        text = _written([metric for part in self._parts for metric in _now(part)])
        vms = _now(self._ledger.each) if self._per_vm else []
        if vms:  # of 10,000 it takes a quarter of a second to write, for which the VMs shall not wait
            text += await asyncio.to_thread(lambda: _written(of_each_vm(vms)))
        return text


def _now(measure: Callable[[], Iterable[_T]]) -> list[_T]:
    """What *measure* says; nothing while the ledger cannot be read, which `ledger_up` tells."""
    try:
        return list(measure())
    except LedgerTrouble:
        return []


class _Measured(Collector):
    """What was measured already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _written(metrics: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Measured(metrics))
    return generate_latest(registry)
