"""Clients of the running deployment and of a double that goes wrong as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from segments.client import SegmentsClient
from tests.client.double import Double, serving
from tests.http.api import Deployment


@pytest.fixture
def client(running: Deployment) -> Iterator[SegmentsClient]:
    """A client of the shared deployment."""
    with SegmentsClient(running.api.url) as client:
        yield client


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    """A service that goes wrong as it is told."""
    async with serving() as double:
        yield double
