"""Scrapes the processes of a running deployment and stores samples as Prometheus would."""

from __future__ import annotations

import time
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.monitoring.promql import NAME, STALE, Labels, Samples, Vector, evaluate

_TIMEOUT_S = 10.0


class Scraper:
    """`targets`: application -> URL of its metrics."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._targets = targets
        self._client = httpx.Client(trust_env=False, timeout=_TIMEOUT_S)
        self._present: dict[str, set[Labels]] = {}
        self.samples = Samples()
        self.families: dict[str, set[str]] = {}
        """Application -> families of its last scrape."""

    def close(self) -> None:
        self._client.close()

    def scrape(self) -> float:
        """Scrape every reachable target; returns the Unix time."""
        at_s = time.time()
        for application in self._targets:
            self._scrape(application, at_s)
        return at_s

    def _scrape(self, application: str, at_s: float) -> None:
        target = {"job": f"segments-{application}", "instance": f"{application}:0"}
        try:
            response = self._client.get(self._targets[application])
            response.raise_for_status()
            text = response.text
        except httpx.HTTPError:
            text = ""
        up = frozenset((target | {NAME: "up"}).items())
        self.samples.add(at_s, up, 1.0 if text else 0.0)
        found: set[Labels] = set()
        self.families[application] = set()
        for family in text_string_to_metric_families(text):
            self.families[application].add(family.name)
            for sample in family.samples:
                labels = frozenset((sample.labels | target | {NAME: sample.name}).items())
                assert labels not in found, f"twice: {sample}"
                found.add(labels)
                self.samples.add(at_s, labels, sample.value)
        for gone in self._present.get(application, set()) - found:
            self.samples.add(at_s, gone, STALE)
        self._present[application] = found

    def ask(self, expression: str) -> Vector:
        """The value of an expression after another scrape."""
        value = evaluate(expression, self.samples, self.scrape())
        assert isinstance(value, dict), expression
        return value

    def number(self, expression: str) -> float:
        """The value of an expression after another scrape; AssertionError unless there is one."""
        values = list(self.ask(expression).values())
        assert len(values) == 1, f"{expression}: {values}"
        return values[0]
