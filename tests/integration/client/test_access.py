"""The client of a service that requires API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from segments.client import (
    AsyncSegmentsClient,
    ForbiddenError,
    Retries,
    UnauthorizedError,
)
from tests.support import credentials
from tests.support.sidecar import Sidecar, entry, running, store

USER = "00000000-0000-4000-8000-000000000001"
ONCE = Retries(attempts=1)


@pytest.fixture
def key(tmp_path: Path) -> str:
    """An analyst's API key."""
    return credentials.api_key(tmp_path, "analyst")


@pytest.fixture
async def sidecar(key: str, tmp_path: Path) -> AsyncIterator[Sidecar]:
    """A sidecar that requires API keys; its history has a row in February 2025."""
    assert key
    store(tmp_path, [entry(0, 0, 1_740_000_000_000, USER)])
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:
        sidecar.user(USER, {})
        yield sidecar


def _client(sidecar: Sidecar, token: str | None) -> AsyncSegmentsClient:
    return AsyncSegmentsClient(f"http://127.0.0.1:{sidecar.port}", token=token, retries=ONCE)


async def test_missing_role_and_invalid_token_raise_different_errors(
    sidecar: Sidecar, key: str
) -> None:
    async with _client(sidecar, key) as client:
        assert (await client.user_segments(USER)).names == []
        with pytest.raises(ForbiddenError, match="admin"):
            await client.change(USER, add=["a"])
    for token in (None, credentials.forged(key)):
        async with _client(sidecar, token) as client:
            with pytest.raises(UnauthorizedError) as raised:
                await client.user_segments(USER)
            assert key not in str(raised.value)
            assert (await client.health()).ready in {True, False}


async def test_report_link_needs_no_token(sidecar: Sidecar, key: str, tmp_path: Path) -> None:
    async with _client(sidecar, key) as client:
        link = await client.report_link("2025-02")
        target = tmp_path / "report.csv"
        assert await client.save_report(target, "2025-02") == 1
    async with httpx.AsyncClient() as browser:
        assert (await browser.get(link)).content == target.read_bytes()
