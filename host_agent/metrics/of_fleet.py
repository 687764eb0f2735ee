# SPDX-License-Identifier: Apache-2.0
"""Measured of this host's part in a fleet: whether etcd answers, whether its lease holds, which of the VMs here are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.metrics.family import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from host_agent.membership import Health


def of_fleet(health: Health | None) -> Iterator[Metric]:
    """Nothing of a host that is in none."""
    if health is not None:
        yield gauge("etcd_up", "Whether etcd answers: 1, or 0.", health.answers)
        yield gauge("fleet_lease_up", "Whether this host's lease holds, so that it may send: 1, or 0.", health.leased)
        yield gauge("fleet_vms", "VMs of the fleet that are on this host.", health.here)
        yield gauge("fleet_owned_vms", "Those of them that this host alone may provision now.", health.owned)
