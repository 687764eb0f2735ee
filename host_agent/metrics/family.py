# SPDX-License-Identifier: Apache-2.0
"""One measurement with all its values, as Prometheus has it: named by its conventions, in base units, with few labels."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Metric

    from host_agent.durations import Durations

#: What every name begins with.
PREFIX: Final = "pv_host_agent_"


def gauge(name: str, means: str, value: float) -> Metric:
    """What goes up and down."""
    return GaugeMetricFamily(PREFIX + name, means, value=value)


def counter(name: str, means: str, value: float) -> Metric:
    """What only grows while the service runs; *name* is without the ``_total`` that is added."""
    return CounterMetricFamily(PREFIX + name, means, value=value)


def gauges(name: str, means: str, label: str, values: Mapping[str, float]) -> Metric:
    """The same, one for each value of *label*."""
    family = GaugeMetricFamily(PREFIX + name, means, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def counters(name: str, means: str, label: str, values: Mapping[str, float]) -> Metric:
    """The same, one for each value of *label*."""
    family = CounterMetricFamily(PREFIX + name, means, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def of_each(name: str, means: str, labels: Iterable[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """A gauge for each of *values*, which begin with those of *labels*."""
    family = GaugeMetricFamily(PREFIX + name, means, labels=list(labels))
    for words, value in values:
        family.add_metric(words, value)
    return family


def histogram(name: str, means: str, durations: Durations) -> Metric:
    """How long something took."""
    buckets = [("+Inf" if bound == inf else str(bound), count) for bound, count in durations.at_most()]
    return HistogramMetricFamily(PREFIX + name, means, buckets=buckets, sum_value=durations.total)
