"""Evaluates rules as Prometheus does, and runs test files of promtool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import yaml

from tests.support.monitoring.promql import NAME, STALE, Labels, Samples, Vector, evaluate, unnamed
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
RULE_FILES = (DEPLOY / "prometheus" / "recording.yml", DEPLOY / "prometheus" / "alerts.yml")
_SERIES_STEP = re.compile(r"(-?[\d.]+)(?:([+-][\d.]+))?x(\d+)")


class Rule(NamedTuple):
    """A rule of a file: it records a series, or is an alert."""

    name: str
    expression: str
    is_alert: bool
    for_s: float
    labels: dict[str, str]
    annotations: dict[str, str]


def load(*files: Path) -> list[Rule]:
    """The rules in their order."""
    rules = []
    for file in files:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            rules += [_rule(rule) for rule in group["rules"]]
    return rules


def _rule(rule: dict[str, Any]) -> Rule:
    return Rule(
        rule.get("alert") or rule["record"],
        rule["expr"],
        "alert" in rule,
        seconds(rule["for"]) if "for" in rule else 0.0,
        rule.get("labels", {}),
        rule.get("annotations", {}),
    )


def seconds(duration: str) -> float:
    """`5m` -> 300.0."""
    return float(promql.parse_duration(duration).total_seconds())


class Engine:
    """Evaluates rules at one instant after another, and keeps what comes out with the samples."""

    def __init__(self, rules: list[Rule], samples: Samples) -> None:
        self._rules = rules
        self._samples = samples
        self._since: dict[tuple[str, Labels], float] = {}
        self._written: dict[str, set[Labels]] = {}

    def turn(self, at_s: float) -> None:
        """Evaluate every rule once."""
        for rule in self._rules:
            vector = evaluate(rule.expression, self._samples, at_s)
            assert isinstance(vector, dict), f"{rule.name} is no vector"
            out = self._alerts(rule, vector, at_s) if rule.is_alert else _recorded(rule, vector)
            for gone in self._written.get(rule.name, set()) - out.keys():
                self._samples.add(at_s, gone, STALE)
            for labels, value in out.items():
                self._samples.add(at_s, labels, value)
            self._written[rule.name] = set(out)

    def _alerts(self, rule: Rule, vector: Vector, at_s: float) -> Vector:
        active = {(rule.name, unnamed(labels)) for labels in vector}
        self._since = {
            key: since for key, since in self._since.items() if key[0] != rule.name or key in active
        }
        out: Vector = {}
        for key in active:
            since_s = self._since.setdefault(key, at_s)
            state = "firing" if at_s - since_s >= rule.for_s else "pending"
            series = rule.labels | {NAME: "ALERTS", "alertname": rule.name, "alertstate": state}
            out[frozenset((dict(key[1]) | series).items())] = 1.0
        return out

    def firing(self, at_s: float) -> dict[str, Vector]:
        """Alerts that fire, by their names."""
        found = evaluate('ALERTS{alertstate="firing"}', self._samples, at_s)
        assert isinstance(found, dict)
        by_name: dict[str, Vector] = {}
        for labels, value in found.items():
            by_name.setdefault(dict(labels)["alertname"], {})[labels] = value
        return by_name


def _recorded(rule: Rule, vector: Vector) -> Vector:
    return {
        frozenset((dict(labels) | rule.labels | {NAME: rule.name}).items()): value
        for labels, value in vector.items()
    }


class Expectation(NamedTuple):
    """What an expression gives at an instant of a test."""

    expression: str
    at_s: float
    samples: Vector


class RuleTest(NamedTuple):
    """One test of a promtool file."""

    name: str
    interval_s: float
    series: list[tuple[Labels, list[float | None]]]
    """Labels and values; None = no sample at that instant."""
    expectations: list[Expectation]


def load_tests(file: Path) -> tuple[float, list[RuleTest]]:
    """(evaluation interval in seconds, tests) of a file for `promtool test rules`."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    tests = [
        RuleTest(
            test["name"],
            seconds(test["interval"]),
            [
                (_labels(each["series"]), list(_values(each["values"])))
                for each in test["input_series"]
            ],
            [_expectation(each) for each in test["promql_expr_test"]],
        )
        for test in document["tests"]
    ]
    return seconds(document["evaluation_interval"]), tests


def _expectation(document: dict[str, Any]) -> Expectation:
    samples = {_labels(each["labels"]): float(each["value"]) for each in document["exp_samples"]}
    return Expectation(document["expr"], seconds(document["eval_time"]), samples)


def _labels(text: str) -> Labels:
    selector = promql.parse(text)
    assert isinstance(selector, promql.VectorSelector), text
    labels = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
    if selector.name is not None:
        labels[NAME] = selector.name
    return frozenset(labels.items())


def _values(text: str) -> Iterator[float | None]:
    """`1 0+2x3 _` -> 1, 0, 2, 4, 6, None: as promtool spells a series."""
    for word in text.split():
        step = _SERIES_STEP.fullmatch(word)
        if step is not None:
            first, growth = float(step[1]), float(step[2] or 0)
            yield from (first + growth * number for number in range(int(step[3]) + 1))
        elif word == "_":
            yield None
        else:
            yield float(word)


def run(test: RuleTest, rules: list[Rule], evaluation_interval_s: float) -> list[str]:
    """Results that differ from the expectations."""
    samples = Samples()
    engine = Engine(rules, samples)
    fed = 0
    wrong = []
    expectations = sorted(test.expectations, key=lambda each: each.at_s)
    length = max(len(values) for _, values in test.series)
    at_s = 0.0
    while expectations:
        while fed < length and fed * test.interval_s <= at_s:
            _feed(samples, test, fed)
            fed += 1
        engine.turn(at_s)
        while expectations and expectations[0].at_s < at_s + evaluation_interval_s:
            expected = expectations.pop(0)
            found = evaluate(expected.expression, samples, expected.at_s)
            if found != expected.samples:
                wrong.append(f"at {expected.at_s:g} s {expected.expression}: {found}")
        at_s += evaluation_interval_s
    return wrong


def _feed(samples: Samples, test: RuleTest, number: int) -> None:
    for labels, values in test.series:
        if number < len(values) and values[number] is not None:
            samples.add(number * test.interval_s, labels, values[number])
