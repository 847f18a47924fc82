"""Enough of PromQL to evaluate the rules and panels of deploy/, over samples held in memory.

Parsing is left to a library; what is evaluated here is compared with promtool by
test_alerts.py::test_promtool_agrees, where that is installed. Anything else is rejected.
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import promql_parser as promql

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Value = float | Vector
Points = list[tuple[float, float]]

NAME = "__name__"
LOOKBACK_S = 300.0
STALE = None
"""The sample that ends a series."""

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    # IEEE 754: 0/0 is NaN, and no error is raised.
    "/": lambda a, b: a / b if b else (math.nan if a == 0 or math.isnan(a) else a * math.inf),
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "max": max,
    "min": min,
    "count": len,
    "avg": lambda values: math.fsum(values) / len(values),
}


class Samples:
    """Series of samples in the order of time (seconds); None ends a series."""

    def __init__(self) -> None:
        self._series: defaultdict[Labels, list[tuple[float, float | None]]] = defaultdict(list)

    def add(self, at_s: float, labels: Labels, value: float | None) -> None:
        """Add the newest sample of a series; its name is the label `__name__`."""
        self._series[labels].append((at_s, value))

    def names(self) -> set[str]:
        """The names of all series."""
        return {dict(labels)[NAME] for labels in self._series}

    def matching(self, selector: Any) -> Iterable[tuple[Labels, list[tuple[float, float | None]]]]:
        """The series that a vector selector selects."""
        for labels, points in self._series.items():
            named = dict(labels)
            if selector.name in (None, named[NAME]) and all(
                _matches(matcher, named.get(matcher.name, ""))
                for matcher in selector.matchers.matchers
            ):
                yield labels, points

    def last(self, selector: Any, at_s: float) -> Vector:
        """The instant vector of a selector."""
        found: Vector = {}
        for labels, points in self.matching(selector):
            index = bisect.bisect_right(points, at_s, key=lambda point: point[0])
            if index:
                sampled_at_s, value = points[index - 1]
                if value is not STALE and sampled_at_s > at_s - LOOKBACK_S:
                    found[labels] = value
        return found

    def window(self, selector: Any, at_s: float, range_s: float) -> dict[Labels, Points]:
        """The range vector of a selector: what is not older than `range_s`."""
        return {
            labels: [
                (t, value)
                for t, value in points
                if at_s - range_s < t <= at_s and value is not None
            ]
            for labels, points in self.matching(selector)
        }


def _matches(matcher: Any, value: str) -> bool:
    if matcher.op == promql.MatchOp.Equal:
        return bool(value == matcher.value)
    if matcher.op == promql.MatchOp.NotEqual:
        return bool(value != matcher.value)
    found = re.fullmatch(matcher.value, value) is not None
    return bool(found == (matcher.op == promql.MatchOp.Re))


def evaluate(expression: str, samples: Samples, at_s: float) -> Value:
    """The value of an expression at an instant. NotImplementedError for what is not known here."""
    return _value(promql.parse(expression), samples, at_s)


def _value(node: Any, samples: Samples, at_s: float) -> Value:
    if isinstance(node, promql.NumberLiteral):
        return float(node.val)
    if isinstance(node, promql.ParenExpr):
        return _value(node.expr, samples, at_s)
    if isinstance(node, promql.VectorSelector):
        return samples.last(node, at_s)
    if isinstance(node, promql.AggregateExpr):
        return _aggregate(node, _vector(node.expr, samples, at_s))
    if isinstance(node, promql.BinaryExpr):
        left, right = _value(node.lhs, samples, at_s), _value(node.rhs, samples, at_s)
        return _binary(str(node.op), left, right, node.modifier)
    if isinstance(node, promql.Call):
        return _call(node, samples, at_s)
    raise NotImplementedError(f"{type(node).__name__}: {node}")


def _vector(node: Any, samples: Samples, at_s: float) -> Vector:
    value = _value(node, samples, at_s)
    assert isinstance(value, dict), f"no vector: {node}"
    return value


def unnamed(labels: Labels) -> Labels:
    """Labels without the name of the metric."""
    return frozenset(pair for pair in labels if pair[0] != NAME)


def _aggregate(node: Any, vector: Vector) -> Vector:
    if str(node.op) not in _AGGREGATIONS:
        raise NotImplementedError(f"aggregation {node.op}")
    kept: set[str] = set()
    if node.modifier is not None:
        if node.modifier.type != promql.AggModifierType.By:
            raise NotImplementedError(f"modifier {node.modifier}")
        kept = set(node.modifier.labels)
    groups: defaultdict[Labels, list[float]] = defaultdict(list)
    for labels, value in vector.items():
        groups[frozenset(pair for pair in labels if pair[0] in kept)].append(value)
    return {labels: _AGGREGATIONS[str(node.op)](values) for labels, values in groups.items()}


def _binary(op: str, left: Value, right: Value, modifier: Any) -> Value:
    if modifier is not None and (modifier.matching is not None or modifier.return_bool):
        raise NotImplementedError(f"modifier {modifier}")
    if isinstance(left, dict) and isinstance(right, dict):
        return _both(op, left, right)
    if op in _ARITHMETIC:
        compute = _ARITHMETIC[op]
        if isinstance(left, dict):
            assert not isinstance(right, dict)
            return {unnamed(labels): compute(value, right) for labels, value in left.items()}
        if isinstance(right, dict):
            return {unnamed(labels): compute(left, value) for labels, value in right.items()}
        return compute(left, right)
    if op in _COMPARISONS and isinstance(left, dict) and not isinstance(right, dict):
        holds = _COMPARISONS[op]
        return {labels: value for labels, value in left.items() if holds(value, right)}
    raise NotImplementedError(f"{op} of {type(left).__name__} and {type(right).__name__}")


def _both(op: str, left: Vector, right: Vector) -> Vector:
    """Of two vectors, matched by all labels but the name."""
    others = {unnamed(labels): value for labels, value in right.items()}
    if op == "and":
        return {labels: value for labels, value in left.items() if unnamed(labels) in others}
    if op == "or":
        mine = {unnamed(labels) for labels in left}
        return left | {k: value for k, value in right.items() if unnamed(k) not in mine}
    pairs = [
        (labels, value, others[unnamed(labels)])
        for labels, value in left.items()
        if unnamed(labels) in others
    ]
    if op in _ARITHMETIC:
        return {unnamed(labels): _ARITHMETIC[op](a, b) for labels, a, b in pairs}
    if op in _COMPARISONS:
        return {labels: a for labels, a, b in pairs if _COMPARISONS[op](a, b)}
    raise NotImplementedError(op)


def _call(node: Any, samples: Samples, at_s: float) -> Value:
    name = node.func.name
    if name == "time":
        return at_s
    if name == "histogram_quantile":
        quantile = _value(node.args[0], samples, at_s)
        assert isinstance(quantile, float)
        return _quantiles(quantile, _vector(node.args[1], samples, at_s))
    if name not in _OVER_RANGES or not isinstance(node.args[0], promql.MatrixSelector):
        raise NotImplementedError(f"function {name}")
    matrix = node.args[0]
    range_s = _seconds(matrix.range)
    result: Vector = {}
    for labels, points in samples.window(matrix.vector_selector, at_s, range_s).items():
        value = _OVER_RANGES[name](points, at_s, range_s) if points else None
        if value is not None:
            result[unnamed(labels)] = value
    return result


def _seconds(length: timedelta) -> float:
    return length.total_seconds()


def _increase(points: Points, at_s: float, range_s: float) -> float | None:
    """As Prometheus extrapolates it to the ends of the range (promql/functions.go)."""
    if len(points) < 2:
        return None
    (first_s, first), (last_s, last) = points[0], points[-1]
    grown = last - first
    for (_, before), (_, after) in itertools.pairwise(points):
        if after < before:
            grown += before
    sampled_s = last_s - first_s
    average_s = sampled_s / (len(points) - 1)
    to_start_s, to_end_s = first_s - (at_s - range_s), at_s - last_s
    if to_start_s >= 1.1 * average_s:
        to_start_s = average_s / 2
    if grown > 0 and first >= 0:
        # A counter does not begin below zero.
        to_start_s = min(to_start_s, sampled_s * first / grown)
    if to_end_s >= 1.1 * average_s:
        to_end_s = average_s / 2
    return grown * (sampled_s + to_start_s + to_end_s) / sampled_s


def _rate(points: Points, at_s: float, range_s: float) -> float | None:
    increase = _increase(points, at_s, range_s)
    return None if increase is None else increase / range_s


def _changes(points: Points, _at_s: float, _range_s: float) -> float:
    return sum(a[1] != b[1] for a, b in itertools.pairwise(points))


def _deriv(points: Points, _at_s: float, _range_s: float) -> float | None:
    """The slope of the line with the least squares."""
    if len(points) < 2:
        return None
    mean_s = math.fsum(t for t, _ in points) / len(points)
    spread = math.fsum((t - mean_s) ** 2 for t, _ in points)
    return math.fsum((t - mean_s) * value for t, value in points) / spread


def _lowest(points: Points, _at_s: float, _range_s: float) -> float:
    return min(value for _, value in points)


_OVER_RANGES: dict[str, Callable[[Points, float, float], float | None]] = {
    "increase": _increase,
    "rate": _rate,
    "changes": _changes,
    "deriv": _deriv,
    "min_over_time": _lowest,
}


def _quantiles(quantile: float, vector: Vector) -> Vector:
    groups: defaultdict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, value in vector.items():
        rest = frozenset(pair for pair in labels if pair[0] not in (NAME, "le"))
        groups[rest].append((float(dict(labels)["le"].replace("Inf", "inf")), value))
    return {labels: _quantile(quantile, sorted(buckets)) for labels, buckets in groups.items()}


def _quantile(quantile: float, buckets: list[tuple[float, float]]) -> float:
    total = buckets[-1][1]
    if not total or math.isnan(total):
        return math.nan
    rank = quantile * total
    index = next(i for i, (_, count) in enumerate(buckets) if count >= rank)
    if index == len(buckets) - 1:
        return buckets[-2][0]
    lower, below = buckets[index - 1] if index else (0.0, 0.0)
    upper, count = buckets[index]
    return lower + (upper - lower) * (rank - below) / (count - below)
