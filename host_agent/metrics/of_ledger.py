# SPDX-License-Identifier: Apache-2.0
"""Measured of the ledger: whether it takes what is written, how long that takes, how large it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.metrics.family import counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client import Metric

    from host_agent.ledger.ledger import Ledger
    from host_agent.talk.drive import Batch


def of_ledger(ledger: Ledger, batch: Batch) -> Iterator[Metric]:
    """As its one writer has it."""
    yield gauge("ledger_up", "Whether the ledger took what was last written: 1, or 0.", batch.last_trouble is None)
    yield histogram("ledger_commit_seconds", "How long commits took.", ledger.commits)
    yield counter("ledger_commit_failures", "Commits that failed: nothing was sent on their account.", batch.counts.not_recorded)
    size = _size(ledger.path) + _size(ledger.path.with_name(f"{ledger.path.name}-wal"))
    yield gauge("ledger_size_bytes", "The ledger's file, and what waits beside it to be moved there.", size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # set aside, or not yet made
        return 0
