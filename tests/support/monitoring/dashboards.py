"""Reads the Grafana dashboards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.monitoring import rules

GRAFANA = rules.DEPLOY / "grafana"


FILES = sorted((GRAFANA / "dashboards").glob("*.json"))


DASHBOARDS: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FILES
}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels that show data."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(panel, expression as Prometheus gets it, legend) of every query."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            yield (
                panel["title"],
                re.sub(r"\$(job|instance)\b", ".+", expression),
                target["legendFormat"],
            )
