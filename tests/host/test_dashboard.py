# SPDX-License-Identifier: Apache-2.0
"""Grafana's dashboard and Prometheus' alerts ask for metrics and labels that a service really has, and for all of them."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from host_agent.membership import Health
from host_agent.metrics.of_fleet import of_fleet
from tests.host.dom0 import eventually
from tests.host.fakes import FakeGuest, FakeQemu
from tests.host.measured import Measured

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP: Final = Path(__file__).parents[2]
DASHBOARD: Final = TOP / "docs/grafana/pv-host-agent.json"
RULES: Final = TOP / "docs/prometheus/pv-host-agent.rules.yaml"
#: What Prometheus adds when it scrapes.
ADDED: Final = {"instance", "job"}
#: Values of labels that are there only at times.
SOMETIMES: Final = {"yes", "no"}
#: What a metric's name may end in, for those of one kind.
ENDS: Final = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}

#: A metric's name, its labels' names, and their values that are asked for.
Metrics = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """What a service exposes that has met a guest, waits for another, and cannot reach a third."""
    dom0 = Measured(tmp_path_factory.mktemp("dom0"))
    for name in ("met", "away", "wrong"):
        dom0.document(name, "web1")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(dom0.sockets / "wrong.sock"))
    pages: list[bytes] = []

    async def story() -> None:
        await eventually(lambda: dom0.read().get("pv_host_agent_documents standing=applied") == 1, "one is met")
        await eventually(lambda: any("stream_failures_total" in name for name in dom0.read()), "one cannot be reached")
        pages.append(dom0.file.read_bytes())

    with FakeQemu(dom0.sockets / "met.sock", FakeGuest()):
        dom0.measure(story)
    registry = CollectorRegistry()
    registry.register(InAFleet())
    return dict(_exposed(pages[0].decode() + generate_latest(registry).decode()))


class InAFleet(Collector):
    """What a host measures, beside all that, which is in a fleet."""

    def collect(self) -> Iterator[Metric]:
        return of_fleet(Health(answers=True, leased=True, here=2, owned=1))


def _exposed(text: str) -> Iterator[tuple[str, dict[str, set[str]]]]:
    for family in text_string_to_metric_families(text):
        for end in ENDS[family.type]:
            labels: dict[str, set[str]] = {}
            for sample in family.samples:
                if sample.name == family.name + end:
                    for label, value in sample.labels.items():
                        labels.setdefault(label, set()).add(value)
            yield family.name + end, labels


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def alerts() -> list[Any]:
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    shown = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]
    return [*shown, *(rule["expr"] for rule in alerts())]


def test_every_expression_asks_for_what_is_there(metrics: Metrics) -> None:
    for expression in expressions():
        asked = re.findall(r"(pv_host_agent_\w+)(?:\{([^}]*)\})?", expression)
        assert asked, expression
        assert {name for name, _ in asked} <= metrics.keys()
        for name, selector in asked:
            for label, equals, wanted in re.findall(r'(\w+)(=~?)"([^"]*)"', selector):
                assert label in metrics[name].keys() | ADDED, expression
                words = set(wanted.split("|") if equals == "=~" else [wanted])
                assert label in ADDED or words <= metrics[name][label] | SOMETIMES, expression
        there = {label for name, _ in asked for label in metrics[name]} | ADDED
        by = {label for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(", ")}
        assert by <= there, expression


def test_the_dashboard_shows_every_metric(metrics: Metrics) -> None:
    said = " ".join(expressions())
    rest = [name for name in metrics if name not in said and not name.endswith(("_sum", "_count"))]
    assert rest == []


def test_the_dashboard_asks_for_its_data_source_and_draws_nothing_over_another(metrics: Metrics) -> None:
    board = dashboard()
    names = {variable["name"] for variable in board["templating"]["list"]}
    assert names == {"datasource", "instance"}
    used = set(re.findall(r"\$\{?([a-z]+)\}?", json.dumps(board["panels"])))
    assert used <= names
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [(x, y) for panel in panels for x, y in _cells(panel["gridPos"])]
    assert len(cells) == len(set(cells))
    assert all(panel["title"] and (panel["type"] == "row" or panel["description"]) for panel in panels)
    (hosts,) = [variable for variable in board["templating"]["list"] if variable["name"] == "instance"]
    assert re.findall(r"pv_host_agent_\w+", hosts["definition"])[0] in metrics


def _cells(at: dict[str, int]) -> Iterator[tuple[int, int]]:
    return ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"]))


def test_every_alert_says_what_it_means() -> None:
    assert len({rule["alert"] for rule in alerts()}) == len(alerts())
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] in ("warning", "critical") for rule in alerts())
