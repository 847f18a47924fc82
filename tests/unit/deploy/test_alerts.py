"""Prometheus rules: their series are served, and alerts fire exactly when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import promql_parser as promql
import pytest
import yaml

from tests.support.docs import reading
from tests.support.monitoring import catalogue, rules

TESTS = Path(__file__).with_name("alerts_test.yml")
RULES = rules.load(*rules.RULE_FILES)
ALERTS = [rule for rule in RULES if rule.is_alert]
EVALUATION_INTERVAL_S, CASES = rules.load_tests(TESTS)
PROMTOOL = shutil.which("promtool")

each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=[alert.name for alert in ALERTS])


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_alerts_fire_as_expected(case: rules.RuleTest) -> None:
    assert case.expectations
    assert rules.run(case, RULES, EVALUATION_INTERVAL_S) == []


def test_every_alert_is_tested_firing_and_pending() -> None:
    fired: dict[str, float] = {}
    silent: dict[str, float] = {}
    for case in CASES:
        for expected in case.expectations:
            for labels in expected.samples:
                name = dict(labels)["alertname"]
                fired[name] = expected.at_s
                before = [e.at_s for e in case.expectations if not e.samples]
                silent |= {name: min(before)} if before else {}
    assert fired.keys() == silent.keys() == {alert.name for alert in ALERTS}
    assert all(silent[name] < fired[name] for name in fired)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", str(rules.DEPLOY / "prometheus" / "prometheus.yml")],
        ["check", "rules", *map(str, rules.RULE_FILES)],
        ["test", "rules", str(TESTS)],
    ],
    ids=["config", "rules", "tests"],
)
def test_promtool_agrees(arguments: list[str]) -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_rule
def test_every_series_of_a_rule_is_served(rule: rules.Rule) -> None:
    recorded = {each.name for each in RULES if not each.is_alert}
    assert catalogue.unknown(rule.expression, recorded) == []


@each_alert
def test_an_alert_says_what_it_is_about(alert: rules.Rule) -> None:
    assert alert.for_s > 0
    assert alert.labels["severity"] in ("critical", "warning")
    assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
    given = _labels_of(alert.expression)
    for text in alert.annotations.values():
        named = set(re.findall(r"\$labels\.(\w+)", text))
        # What an aggregation leaves out is empty in the words.
        assert given is None or named <= given, text


def _labels_of(expression: str) -> set[str] | None:
    """The labels of an expression's result; None = those of its series."""
    node = promql.parse(expression)
    while isinstance(node, promql.BinaryExpr):
        node = (
            node.rhs
            if isinstance(node.lhs, promql.Call) and node.lhs.func.name == "time"
            else node.lhs
        )
    if isinstance(node, promql.Call) and node.func.name == "histogram_quantile":
        node = node.args[1]
    if not isinstance(node, promql.AggregateExpr):
        return None
    return set() if node.modifier is None else set(node.modifier.labels) - {"le"}


@each_alert
def test_an_alert_has_a_runbook(alert: rules.Rule) -> None:
    path, _, anchor = alert.annotations["runbook_url"].partition("#")
    assert path == "docs/operations.md"
    assert anchor == alert.name.lower()
    assert f"\n### {alert.name}\n" in reading.read(path)


def test_every_runbook_has_an_alert() -> None:
    text = reading.read("docs/operations.md")
    headings = set(re.findall(r"^### (Segments\w+)$", text, re.MULTILINE))
    assert headings == {alert.name for alert in ALERTS}


def test_prometheus_loads_every_rule_file() -> None:
    folder = rules.DEPLOY / "prometheus"
    said = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
    assert [folder / name for name in said["rule_files"]] == list(rules.RULE_FILES)
