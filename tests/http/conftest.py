"""One deployment with every application running, for all tests of HTTP on a real broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import support
from tests.http.api import Api, Deployment

FIRST_TIMEOUT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first also waits for a broker and five processes."""
    for item in items:
        if "running" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(FIRST_TIMEOUT_S))


@pytest.fixture(scope="session")
def running(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Everything runs. Each test uses users and segments of its own."""
    folder = tmp_path_factory.mktemp("http") / "data"
    # Ticks more often than by default, so that nobody waits long for an instant to be complete.
    with support.deployment(
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
