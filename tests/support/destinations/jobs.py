"""A sidecar with destinations, and requests for its report jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.destinations.places import Place
from tests.support.sidecar import Sidecar, running

MONTH = "2025-03"
QUICK = {"backoff_ms": 1, "backoff_max_ms": 20, "attempts": 3, "step_timeout_s": 20}


@asynccontextmanager
async def serving(folder: Path, place: Place, **reports: Any) -> AsyncIterator[Sidecar]:
    """A sidecar with this place as the destination `archive`."""
    described = {**QUICK, "destinations": {"archive": place.settings}, **reports}
    async with running(folder, reports=described) as sidecar:
        yield sidecar


async def order(sidecar: Sidecar, **body: Any) -> httpx.Response:
    """POST /v1/reports to the place."""
    wanted = {"month": MONTH, "destination": "archive", **body}
    return await sidecar.client.post("/v1/reports", json=wanted)


async def ended(sidecar: Sidecar, response: httpx.Response) -> dict[str, Any]:
    """The job of a 202, once it has ended."""
    assert response.status_code == 202, response.text
    found = await sidecar.get(response.headers["location"], headers={"Prefer": "wait=30"})
    job: dict[str, Any] = found.json()
    assert job["state"] in ("done", "failed"), job
    return job


async def put(sidecar: Sidecar, **body: Any) -> dict[str, Any]:
    """A job, once it has ended."""
    return await ended(sidecar, await order(sidecar, **body))


async def direct(sidecar: Sidecar, month: str = MONTH, **query: str) -> bytes:
    """The report behind a link."""
    response = await sidecar.get(f"/v1/reports/{month}.csv", params=query)
    assert response.status_code == 200, response.text
    return response.content
