"""Lifecycle of the sidecar's process: serving, stopping on signals, stopping on failures."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from segments.http import app as module
from segments.http.context import Services
from segments.http.server.listener import serving
from segments.process.ports import free_port
from segments.settings import Settings
from tests.support.sidecar import Sidecar, running, store


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        yield sidecar


@pytest.fixture
def settings(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a second server with the same services, on its own port."""

    @asynccontextmanager
    async def services(_settings: Settings) -> AsyncIterator[Services]:
        sidecar.services.producer.failed = asyncio.get_running_loop().create_future()
        yield sidecar.services

    monkeypatch.setattr(module, "open_services", services)
    return Settings(http={"port": free_port()})


async def served(settings: Settings) -> asyncio.Task[None]:
    """Start the server; returns once it responds."""
    task = asyncio.create_task(module.serve(settings))
    url = f"http://127.0.0.1:{settings.http.port}/livez"
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        while not task.done():
            try:
                if (await client.get(url)).status_code == 200:
                    break
            except httpx.TransportError:
                await asyncio.sleep(0.01)
    assert not task.done()
    return task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_on_a_signal(settings: Settings, number: int) -> None:
    task = await served(settings)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(task, 30)


@pytest.mark.parametrize("part", ["view_consumer", "producer"])
async def test_it_stops_when_the_consumer_or_producer_fails(
    settings: Settings, sidecar: Sidecar, part: str
) -> None:
    task = await served(settings)
    failed: Any = getattr(sidecar.services, part).failed
    failed.set_exception(RuntimeError(f"the {part} is broken"))
    with pytest.raises(RuntimeError, match=part):
        await asyncio.wait_for(task, 30)


async def test_a_port_in_use(settings: Settings, sidecar: Sidecar) -> None:
    http = settings.http.model_copy(update={"port": sidecar.port})
    with pytest.raises(OSError, match="in use"):
        async with serving(module.build(sidecar.services), http):
            pass


async def test_requests_in_progress_finish_before_it_stops(
    settings: Settings, sidecar: Sidecar
) -> None:
    task = await served(settings)
    url = f"http://127.0.0.1:{settings.http.port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
        headers = {"Segments-Min-Position": "0:50", "Prefer": "wait=20"}
        asking = asyncio.create_task(client.get("/v1/segments", headers=headers, timeout=30))
        while not sidecar.services.waiters._count:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        assert not task.done()
        sidecar.reach(50)
        assert (await asking).status_code == 200
        with pytest.raises(httpx.TransportError):
            await client.get("/livez")
    await asyncio.wait_for(task, 30)
