"""A client of the shared deployment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from segments.client import SegmentsClient
from tests.support.api import Deployment


@pytest.fixture
def client(running: Deployment) -> Iterator[SegmentsClient]:
    """A client of the shared deployment."""
    with SegmentsClient(running.api.url) as client:
        yield client
