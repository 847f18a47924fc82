"""A service that fails on request, for the client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.service_double import Double, serving


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    """A service that fails on request."""
    async with serving() as double:
        yield double
