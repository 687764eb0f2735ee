# SPDX-License-Identifier: Apache-2.0
"""Measured of all VMs' streams together: bytes, handshakes, refusals, documents and answers, and lines that were dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.metrics.family import counter, counters, gauge
from host_agent.talk.notices import What
from pv_channel.greeting import Refusal
from pv_channel.messages import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from host_agent.ledger.known import Counted
    from host_agent.talk.counts import Counts

_OUTCOMES: Final = tuple(outcome.value for outcome in Outcome if outcome is not Outcome.PENDING)


def of_streams(counts: Counts, dropped: Counted) -> Iterator[Metric]:
    """Since the service started."""
    yield gauge("streams", "Streams to VMs that are open.", counts.streams)
    yield counter("streams_opened", "Streams to VMs that were opened.", counts.opened)
    yield counters("stream_failures", "Attempts to open one that failed.", "reason", counts.unreachable)
    yield counter("received_bytes", "Bytes from VMs.", counts.received)
    yield counter("sent_bytes", "Bytes to VMs.", counts.sent)
    yield from _of_sessions(counts)
    lines = {"garbage": dropped.dropped, "echo": dropped.echoed, "stale": dropped.stale}
    yield counters("dropped_lines", "Lines from VMs that were dropped.", "reason", lines)


def _of_sessions(counts: Counts) -> Iterator[Metric]:
    met = counts.notices[What.MET]
    handshakes = {"new": counts.first_met, "known": met - counts.first_met}
    yield counters("handshakes", "Sessions that were sealed with a guest that is believed.", "guest", handshakes)
    refusals = {refusal.name.lower().replace("_", "-"): counts.refusals[refusal] for refusal in Refusal}
    refusals |= {what.value: counts.notices[what] for what in (What.KEY_CHANGED, What.KEY_SHARED)}
    yield counters("refusals", "Handshakes that a guest refused, or that we did: nothing was sent.", "reason", refusals)
    yield counter("sessions_lost", "Sessions that ended otherwise than by our leaving.", counts.notices[What.LOST])
    yield counter("documents_sent", "Documents that were sent.", counts.notices[What.SENDING])
    answers = {outcome: counts.answers[outcome] for outcome in _OUTCOMES}
    yield counters("answers", "Guests' answers to documents.", "outcome", answers)
