"""A test double of the service that injects faults, for the client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.service_double import Double, serving


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    """A test double of the service that injects faults."""
    async with serving() as double:
        yield double
