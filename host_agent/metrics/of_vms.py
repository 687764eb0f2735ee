# SPDX-License-Identifier: Apache-2.0
"""Measured of the VMs, by the ledger's own count: where they stand, how far their documents are, since when one waits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from host_agent.ledger.standing import State
from host_agent.metrics.family import gauge, gauges, of_each
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from host_agent.ledger.census import Group, OfOne

_STATES: Final = (
    State.READY, State.PROVISIONING, State.GREETING, State.UNREACHABLE, State.DEGRADED, State.REFUSED, State.KEY_CHANGED,
    State.KEY_SHARED, State.BAD_DOCUMENT,
)  # fmt: skip
#: How far a document is: an operator's words for a verdict's.
_DOCUMENTS: Final = {"ready": "applied", "waiting": "pending", "failed": "failed"}
_ONE: Final = ("vm", "key")
_MAX_NAME: Final = 200


def of_vms(groups: Iterable[Group]) -> Iterator[Metric]:
    """Of all of them together."""
    groups = list(groups)
    states, documents = Counter(dict.fromkeys(_STATES, 0)), Counter(dict.fromkeys(_DOCUMENTS.values(), 0))
    oldest: dict[str, float] = {}
    for group in groups:
        document = _DOCUMENTS[group.document]
        states[group.state] += group.vms
        documents[document] += group.vms
        if document == "pending":
            reachable = "no" if group.state == State.UNREACHABLE else "yes"
            oldest[reachable] = min(oldest.get(reachable, group.since), group.since)
    yield gauges("vms", "VMs that have a document, by where they stand.", "state", states)
    yield gauges("documents", "The same VMs, by how far what is wanted of them is.", "standing", documents)
    yield gauges(
        "oldest_pending_timestamp_seconds", "Since when the document is wanted that is pending longest, if one is.",
        "reachable", oldest,
    )  # fmt: skip
    yield gauge("document_errors", "VMs whose document cannot be used as it is.", sum(group.bad_documents for group in groups))


def of_each_vm(vms: Iterable[OfOne]) -> Iterator[Metric]:
    """Of each of them alone."""
    named = [((printable(vm.name, _MAX_NAME), printable(vm.key, _MAX_NAME)), vm) for vm in vms]
    yield of_each(
        "vm_document", "How far what is wanted of the VM is: 1 for the one that holds.", (*_ONE, "standing"),
        (((*name, _DOCUMENTS[vm.document]), 1) for name, vm in named),
    )  # fmt: skip
    for name, means, field in (
        ("vm_generation_applied", "The generation that is in force, or 0.", "generation_applied"),
        ("vm_handshakes", "Handshakes on record.", "sessions"),
        ("vm_dropped_lines", "Lines on record that were dropped.", "dropped"),
        ("vm_last_heard_timestamp_seconds", "When its guest was last heard, or 0.", "last_heard"),
    ):
        yield of_each(name, means, _ONE, ((words, getattr(vm, field)) for words, vm in named))
