"""Fixtures of tests against a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segments.kafka.embedded import EmbeddedKafka
from segments.settings import Settings
from tests.support import deployments
from tests.support.api import Api, Deployment

FIRST_TIMEOUT_S = 300
_LONGEST = (
    "test_assignment_broker",
    "test_more_than_one",
    "test_crash",
    "test_on_the_broker",
    "test_fuzzing",
    "test_scrapes",
    "test_transactions",
    "test_secrets",
    "test_sasl",
)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of an embedded Kafka that all tests share."""
    kafka = EmbeddedKafka(tmp_path_factory.mktemp("broker"))
    kafka.start()
    try:
        yield kafka.bootstrap_servers
    finally:
        kafka.kill()


@pytest.fixture
def deployment(broker: str, tmp_path: Path) -> Iterator[Settings]:
    """A deployment of the test's own on the shared broker, its topics applied."""
    with deployments.deployment(broker, tmp_path / "data") as settings:
        yield settings


@pytest.fixture(scope="session")
def running(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Everything runs. Each test uses users and segments of its own."""
    folder = tmp_path_factory.mktemp("running") / "data"
    # Ticks more often than by default, so that nobody waits long for an instant to be complete.
    with deployments.deployment(
        broker,
        folder,
        tick_interval_ms=200,
        dev={"enabled": True},
        http={"ready_lag_ms": 2_500},
    ) as settings:
        deployment = Deployment(settings)
        deployment.start("router", "users", "shards", "history", "http")
        deployment.wait_until_ready()
        yield deployment
        deployment.api.close()


@pytest.fixture
def api(running: Deployment) -> Api:
    """A client of the shared deployment."""
    return running.api


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first also waits for a broker and five processes.

    Files that take a minute come first: none of them is left for one worker at the end.
    """
    items.sort(key=lambda item: item.path.stem not in _LONGEST)
    for item in items:
        if "running" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(FIRST_TIMEOUT_S))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Show what the processes of a failed test said."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for process in deployments.processes():
            report.sections.append((f"log of {process.name}", process.log()))
