# SPDX-License-Identifier: Apache-2.0
"""A host whose service measures, and its metrics as Prometheus' own reader has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from host_agent.metrics.work import Metrics
from tests.host.dom0 import Dom0

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from host_agent.metrics.loopback import Address

Values = dict[str, float]


def values(text: bytes) -> Values:
    """Every value of a page by its name and labels."""
    families = text_string_to_metric_families(text.decode())
    return {_series(sample.name, sample.labels): sample.value for family in families for sample in family.samples}


def _series(name: str, labels: dict[str, str]) -> str:
    return name + "".join(f" {label}={value}" for label, value in sorted(labels.items()))


class Measured(Dom0):
    """Its file is at *file*."""

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.file = work / "pv.prom"

    def measure(self, story: Callable[[], Awaitable[None]], *, listen: Address | None = None, per_vm: bool = False) -> None:
        """Serve while *story* goes on."""
        self.beside = [("metrics", Metrics(self.file, 0.05, listen, per_vm=per_vm).measure)]
        self.serve(story)

    def read(self) -> Values:
        """The file as it is now."""
        return values(self.file.read_bytes()) if self.file.exists() else {}
