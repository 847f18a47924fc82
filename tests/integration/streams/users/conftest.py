"""Fixtures: a deployment with the example user service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segments.process.ports import free_port
from segments.settings import Settings
from tests.support import deployments
from tests.support.user_service import UserService

FAST = {
    "timeout_ms": 500,
    "attempts": 2,
    "backoff_ms": 20,
    "backoff_max_ms": 200,
    "concurrency": 8,
}


@pytest.fixture
def served(broker: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A deployment whose user service is configured, with short waits.

    `@pytest.mark.parametrize("served", [{...}], indirect=True)` changes its settings.
    """
    overrides = getattr(request, "param", {})
    user_service = {"base_url": f"http://127.0.0.1:{free_port()}", **FAST, **overrides}
    with deployments.deployment(broker, tmp_path / "data", user_service=user_service) as settings:
        yield settings


@pytest.fixture
def service(served: Settings) -> Iterator[UserService]:
    """The example user service of `served`, running."""
    service = UserService(served)
    service.start()
    try:
        yield service
    finally:
        service.close()
