"""Metrics of the processes of a running deployment, and the effect of faults on them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from segments import __version__
from segments.process.ports import free_port
from segments.telemetry import metrics
from tests.support import deployments
from tests.support.api import Deployment
from tests.support.monitoring import dashboards, rules
from tests.support.monitoring.promql import evaluate
from tests.support.monitoring.scraping import Scraper
from tests.support.records import send
from tests.support.user_service import UserService

FIRST_TIMEOUT_S = 300
QUICK = {
    "timeout_ms": 500,
    "attempts": 1,
    "concurrency": 8,
    "backoff_ms": 20,
    "backoff_max_ms": 200,
}
# Panels without series while nothing is wrong.
QUIET = {"Alerts firing", "Requests refused", "Connections closed"}


class Watched:
    """A running deployment with its user service and a scraper."""

    def __init__(self, deployment: Deployment, service: UserService, scraper: Scraper) -> None:
        self.deployment = deployment
        self.settings = deployment.settings
        self.service = service
        self.scraper = scraper

    def event(self) -> None:
        """Send the event of a change of a user."""
        body = f'{{"user_id": "{self.service.ids()[0]}"}}'.encode()
        send(self.settings, "users.events", [body])

    def user(self) -> str:
        """A new user of the user service; unknown ones would be deleted by the refresh."""
        user_id = str(uuid.uuid4())
        self.service.put(user_id, "active")
        return user_id

    def traffic(self) -> None:
        """Cause one event of every kind."""
        api = self.deployment.api
        user_id, segment = self.user(), api.segment()
        api.changed(user_id, add=[segment])
        assert api.segments_of(user_id) == [segment]
        self.event()

    @contextmanager
    def without(self, application: str) -> Iterator[None]:
        """Stop a process while the block runs, then start it again."""
        self.deployment.stop(application)
        try:
            assert self.scraper.number(f'up{{job="segments-{application}"}}') == 0
            yield
        finally:
            self.deployment.start(application)

    def report(self) -> None:
        """Deliver a report."""
        job = {"month": f"{datetime.now(UTC):%Y-%m}", "destination": "files"}
        assert self.deployment.api.client.post("/v1/reports", json=job).status_code == 202


@pytest.fixture(scope="module")
def watched(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The shared deployment; each test repairs what it breaks."""
    ports = {f"{name}_port": free_port() for name in metrics.STREAM_APPLICATIONS}
    folder = tmp_path_factory.mktemp("watched")
    reports = folder / "reports"
    reports.mkdir()
    with deployments.deployment(
        broker,
        folder / "data",
        tick_interval_ms=500,
        http={"ready_lag_ms": 2_500},
        reports={"destinations": {"files": {"kind": "folder", "path": str(reports)}}},
        metrics={"enabled": True, **ports},
        user_service={"base_url": f"http://127.0.0.1:{free_port()}", **QUICK},
    ) as settings:
        service = UserService(settings)
        service.start(users=5)
        deployment = Deployment(settings)
        deployment.start(*metrics.APPLICATIONS)
        deployment.wait_until_ready()
        targets = {
            name: f"http://127.0.0.1:{ports[f'{name}_port']}/metrics"
            for name in metrics.STREAM_APPLICATIONS
        }
        scraper = Scraper(targets | {"http": f"{deployment.api.url}/metrics"})
        try:
            watched = Watched(deployment, service, scraper)
            watched.traffic()
            watched.report()
            yield watched
        finally:
            scraper.close()
            deployment.api.close()
            service.close()


pytestmark = pytest.mark.timeout(FIRST_TIMEOUT_S)


def risen(watched: Watched, expression: str, above: float) -> None:
    """Wait until an expression is above a number."""
    deployments.wait_until(
        lambda: watched.scraper.number(expression) > above,
        what=f"{expression} > {above}",
        poll_s=0.2,
    )


@pytest.mark.parametrize("application", metrics.APPLICATIONS)
def test_every_process_serves_its_metrics(watched: Watched, application: str) -> None:
    watched.scraper.scrape()
    expected = {
        next(iter(metric.describe())).name
        for metric, applications in metrics.SERVED_BY.items()
        if application in applications
    }
    served = watched.scraper.families[application]
    assert {name for name in served if name.startswith("segments_")} == expected
    assert "process_start_time_seconds" in {f"{name}" for name in served}


def test_every_process_serves_its_build_info(watched: Watched) -> None:
    found = watched.scraper.ask("segments_build_info")
    versions = {dict(labels)["application"]: dict(labels)["version"] for labels in found}
    assert versions == dict.fromkeys(metrics.APPLICATIONS, __version__)


def test_every_panel_has_data(watched: Watched) -> None:
    queries = [
        (f"{name}: {title}", text)
        for name, dashboard in dashboards.DASHBOARDS.items()
        for title, text, _ in dashboards.queries(dashboard)
        if title not in QUIET
    ]

    def empty() -> list[str]:
        watched.traffic()
        at_s = watched.scraper.scrape()
        return [
            panel for panel, text in queries if not evaluate(text, watched.scraper.samples, at_s)
        ]

    empty()
    deployments.wait_until(
        lambda: not (left := empty()) or _fail(left), what="every panel", poll_s=0.5
    )


def _fail(left: Any) -> bool:
    raise AssertionError(left)


def test_no_alert_is_pending_in_a_healthy_deployment(watched: Watched) -> None:
    watched.deployment.wait_until_ready()
    recorded = [rule for rule in rules.load(*rules.RULE_FILES) if not rule.is_alert]
    alerts = [rule for rule in rules.load(*rules.RULE_FILES) if rule.is_alert]
    # What other tests break for a moment leaves its mark in counters: it is no fault of now.
    lasting = [
        rule for rule in alerts if "[" not in rule.expression and "ratio" not in rule.expression
    ]
    assert len(lasting) > len(alerts) / 2

    def with_a_reason() -> list[str]:
        at_s = watched.scraper.scrape()
        rules.Engine(recorded, watched.scraper.samples).turn(at_s)
        return [a.name for a in lasting if evaluate(a.expression, watched.scraper.samples, at_s)]

    deployments.wait_until(lambda: not (left := with_a_reason()) or _fail(left), what="no reason")


def test_invalid_records_are_counted_where_they_are_rejected(watched: Watched) -> None:
    counted = 'segments_dlq_records_total{application="router", stage="decode"}'
    before = watched.scraper.number(counted)
    send(watched.settings, "segments.commands", [b"garbage"])
    risen(watched, counted, before)


def test_a_failing_user_service_is_visible_in_metrics(watched: Watched) -> None:
    failed = 'sum(segments_user_service_call_seconds_count{outcome!="ok"})'
    succeeded = "segments_user_service_last_success_timestamp_seconds"
    deployments.wait_until(lambda: watched.scraper.number(succeeded) > 0, what="an answer")
    watched.service.fault(status=503)
    try:
        last = watched.scraper.number(succeeded)
        watched.event()
        risen(watched, f"{failed}", 0)
        before = watched.scraper.number(failed)
        risen(watched, failed, before)
        assert watched.scraper.number(succeeded) == last
        # What waits for it grows old; nobody else is affected.
        waits = 'max(segments_lag_seconds{application="users", topic="users.refreshes"})'
        risen(watched, waits, 1.5)
        assert watched.scraper.number("segments_ready") == 1
    finally:
        watched.service.fault()
    risen(watched, succeeded, last)
    deployments.wait_until(lambda: watched.scraper.number(waits) < 1, what="no lag")


def test_stopped_shards_are_visible_in_metrics(watched: Watched) -> None:
    stale = "max(segments_view_staleness_seconds)"
    with watched.without("shards"):
        risen(watched, stale, 3)
        assert watched.scraper.number("segments_ready") == 0
        assert watched.scraper.ask("segments_oldest_job_age_seconds") == {}
    deployments.wait_until(lambda: watched.scraper.number("segments_ready") == 1, what="readiness")
    assert watched.scraper.number(stale) < 3


def test_a_stopped_history_is_visible_in_metrics(watched: Watched) -> None:
    behind = "max(segments_history_behind_seconds)"
    api = watched.deployment.api
    with watched.without("history"):
        api.changed(watched.user(), add=[api.segment()])
        risen(watched, behind, 2)
        assert watched.scraper.number("segments_ready") == 1
    deployments.wait_until(lambda: watched.scraper.number(behind) < 1, what="a whole history")


def test_a_stopped_router_leaves_a_lag(watched: Watched) -> None:
    known = "sum by (application) (segments_lag_records)"
    with watched.without("router"):
        applications = {dict(labels)["application"] for labels in watched.scraper.ask(known)}
        assert "router" not in applications
        command = {"type": "create_segment", "segment": f"w-{uuid.uuid4()}"}
        send(watched.settings, "segments.commands", [orjson.dumps(command)])
    waiting = 'sum(segments_lag_records{application="router"})'
    deployments.wait_until(
        lambda: watched.scraper.ask(waiting) and watched.scraper.number(waiting) == 0, what="no lag"
    )
