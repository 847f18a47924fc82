"""Fixtures of tests against a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segments.kafka import EmbeddedKafka
from segments.settings import Settings
from tests import support


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
    with support.deployment(broker, tmp_path / "data") as settings:
        yield settings


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Show what the processes of a failed test said."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for process in support.processes():
            report.sections.append((f"log of {process.name}", process.log()))
