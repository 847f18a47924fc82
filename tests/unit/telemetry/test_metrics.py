"""The metric catalogue: names follow the Prometheus conventions, and every metric is set."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from segments.telemetry import metrics
from tests.support.paths import ROOT

CATALOGUE = {
    name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)
}
BASE_UNITS = ("seconds", "bytes", "records")
# Units that others are made of, or that are no base units.
WRONG_UNITS = {"ms", "us", "ns", "milliseconds", "minutes", "hours", "kb", "mb", "mib", "percent"}
LABELS = {
    "application", "end", "kind", "method", "outcome", "partition", "python", "quixstreams",
    "reason", "route", "stage", "state", "status", "topic", "version",
}  # fmt: skip
"""Labels with few values; a new one has to be thought about."""

each_metric = pytest.mark.parametrize("name", CATALOGUE)


def full_name(metric: MetricWrapperBase) -> str:
    """The name under which it is documented and queried."""
    [described] = metric.describe()
    return described.name + ("_total" if isinstance(metric, Counter) else "")


@each_metric
def test_a_metric_is_served_by_someone(name: str) -> None:
    applications = metrics.SERVED_BY[CATALOGUE[name]]
    assert applications
    # In the order of the catalogue, so that the table of the documents can be read.
    assert [a for a in metrics.APPLICATIONS if a in applications] == list(applications)


@each_metric
def test_a_name_keeps_the_conventions(name: str) -> None:
    metric = CATALOGUE[name]
    full = full_name(metric)
    words = full.split("_")
    assert re.fullmatch(r"segments(_[a-z]+)+", full), full
    assert not WRONG_UNITS & set(words), full
    if isinstance(metric, Histogram):
        assert words[-1] in BASE_UNITS, f"{full} has no unit"
    elif isinstance(metric, Gauge):
        # Endings that a counter's or a histogram's series have.
        assert words[-1] not in ("total", "count", "sum", "bucket"), full
    assert ("_timestamp" in full) == full.endswith("_timestamp_seconds")
    if set(words) & set(BASE_UNITS):
        last = words[:-1] if words[-1] == "total" else words
        assert last[-1] in BASE_UNITS, f"{full}: the unit comes last"


@each_metric
def test_a_metric_says_what_it_means(name: str) -> None:
    [described] = CATALOGUE[name].describe()
    assert described.documentation
    assert not described.documentation.endswith(".")


@each_metric
def test_labels_are_bounded(name: str) -> None:
    assert set(CATALOGUE[name]._labelnames) <= LABELS


def test_no_two_metrics_have_one_name() -> None:
    names = [full_name(metric) for metric in CATALOGUE.values()]
    assert len(names) == len(set(names))
    assert metrics.SERVED_BY.keys() == set(CATALOGUE.values())


def test_every_metric_is_used_and_every_used_one_exists() -> None:
    used = {name for file in _sources() for name in _named(file)}
    assert used == set(CATALOGUE)


def _sources() -> Iterator[Path]:
    for room in ("streams", "state", "http", "src/segments"):
        yield from (path for path in (ROOT / room).rglob("*.py") if path.name != "metrics.py")


def _named(file: Path) -> set[str]:
    """`metrics.NAME` in a module."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "metrics"
        and isinstance(getattr(metrics, node.attr, None), MetricWrapperBase)
    }
