"""Grafana dashboards: their series are served, and panels are readable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from tests.support.monitoring import catalogue, rules
from tests.support.monitoring.dashboards import DASHBOARDS, GRAFANA, panels, queries

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


@each_dashboard
def test_every_series_of_a_panel_is_served(dashboard: dict[str, Any]) -> None:
    wrong = {title: catalogue.unknown(text) for title, text, _ in queries(dashboard)}
    assert {title: names for title, names in wrong.items() if names} == {}


@each_dashboard
def test_a_legend_names_the_labels_that_distinguish_series(dashboard: dict[str, Any]) -> None:
    for title, text, legend in queries(dashboard):
        node = promql.parse(text)
        if isinstance(node, promql.Call) and node.func.name == "histogram_quantile":
            node = node.args[1]
        if isinstance(node, promql.AggregateExpr):
            kept = set() if node.modifier is None else set(node.modifier.labels) - {"le"}
            assert set(re.findall(r"{{(\w+)}}", legend)) == kept, title


@each_dashboard
def test_every_panel_is_readable(dashboard: dict[str, Any]) -> None:
    seen = set()
    for panel in panels(dashboard):
        assert panel["title"], panel["id"]
        assert panel["title"] not in seen, panel["title"]
        seen.add(panel["title"])
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert (
            all(target["legendFormat"] for target in panel["targets"]) or panel["type"] == "table"
        )


@each_dashboard
def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


@each_dashboard
def test_a_dashboard_names_no_particular_prometheus(dashboard: dict[str, Any]) -> None:
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert {"job", "instance"} <= variables.keys()
    asking = [*panels(dashboard), *(t for panel in panels(dashboard) for t in panel["targets"])]
    asking += [each for each in variables.values() if each["type"] == "query"]
    assert all(each["datasource"] == DATASOURCE for each in asking)
    assert dashboard["id"] is None


def test_dashboard_names_are_unique() -> None:
    assert len(DASHBOARDS) >= 2
    for field in ("uid", "title"):
        assert len({dashboard[field] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


def test_grafana_is_provisioned_with_the_dashboards() -> None:
    compose = yaml.safe_load((rules.DEPLOY.parent / "docker-compose.yml").read_text())
    mounted = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    [provider] = _provisioned("dashboards/segments.yml")["providers"]
    assert provider["options"]["path"] == mounted["./deploy/grafana/dashboards"]
    [source] = _provisioned("datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    interval = yaml.safe_load((rules.DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == interval["global"]["scrape_interval"]


def _provisioned(name: str) -> Any:
    path: Path = GRAFANA / "provisioning" / name
    return yaml.safe_load(path.read_text(encoding="utf-8"))
