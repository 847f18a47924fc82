"""The series that a query may use: the metric catalogue and what Prometheus adds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser as promql

from segments.telemetry import metrics

TARGET_LABELS = {"job", "instance"}
"""What Prometheus puts on every series that it scrapes."""
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
_STANDARD = {
    "up": set[str](),
    "process_start_time_seconds": set[str](),
    "process_resident_memory_bytes": set[str](),
    "process_cpu_seconds_total": set[str](),
    "process_open_fds": set[str](),
    "process_max_fds": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity"},
}


def series() -> dict[str, set[str]]:
    """Series that the processes serve -> labels of their own."""
    found = dict(_STANDARD)
    for metric in metrics.SERVED_BY:
        [family] = metric.describe()
        for ending in _ENDINGS[family.type]:
            of_bucket = {"le"} if ending == "_bucket" else set()
            found[family.name + ending] = set(metric._labelnames) | of_bucket
    return found


def unknown(expression: str, recorded: set[str] | None = None) -> list[str]:
    """What an expression names that nobody serves. `recorded`: names of recording rules."""
    known = series()
    wrong = []
    for node, within in walk(promql.parse(expression), ()):
        if isinstance(node, promql.VectorSelector) and node.name in (recorded or set()):
            continue
        if isinstance(node, promql.VectorSelector):
            if node.name not in known:
                wrong.append(str(node.name))
                continue
            labels = known[node.name] | TARGET_LABELS
            named = {matcher.name for matcher in node.matchers.matchers}
            for aggregation in within:
                if aggregation.modifier is not None:
                    named |= set(aggregation.modifier.labels)
            wrong += sorted(f"{node.name}: {label}" for label in named - labels)
    return wrong


def walk(node: Any, within: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every node with the aggregations around it."""
    yield node, within
    if isinstance(node, promql.AggregateExpr):
        yield from walk(node.expr, (*within, node))
        if node.param is not None:
            yield from walk(node.param, within)
    elif isinstance(node, promql.BinaryExpr):
        yield from walk(node.lhs, within)
        yield from walk(node.rhs, within)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from walk(argument, within)
    elif isinstance(node, promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        yield from walk(node.expr, within)
    elif isinstance(node, promql.MatrixSelector):
        yield from walk(node.vector_selector, within)
