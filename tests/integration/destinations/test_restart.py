"""The sidecar is killed mid-report and restarted: one complete file, no leftovers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.destinations.jobs import MONTH, QUICK
from tests.support.destinations.places import DropboxPlace, FolderPlace, Place, S3Place, SftpPlace

START_S = 60


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(START_S):
        while not condition():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.002)


@asynccontextmanager
async def sidecar(
    folder: Path, place: Place
) -> AsyncIterator[tuple[subprocess.Popen[bytes], httpx.AsyncClient]]:
    """A sidecar in its own process, and a client."""
    (folder / "port").unlink(missing_ok=True)
    reports = {**QUICK, "step_timeout_s": 60, "destinations": {"archive": place.settings}}
    process = subprocess.Popen(  # noqa: ASYNC220 - it takes no time
        [sys.executable, "-m", "tests.support.destinations.child", str(folder)],
        env=os.environ | {"REPORTS": json.dumps(reports)},
        stdin=subprocess.DEVNULL,
    )
    try:
        await until(lambda: (folder / "port").exists() or process.poll() is not None)
        url = f"http://127.0.0.1:{(folder / 'port').read_text(encoding='utf-8')}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=40) as client:
            yield process, client
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


async def freeze_mid_upload(process: subprocess.Popen[bytes], place: Place) -> None:
    """Wait until part of the file has been sent, then freeze the process."""
    if isinstance(place, FolderPlace):
        await until(lambda: bool(place.leftovers()))
        process.send_signal(signal.SIGSTOP)
    elif isinstance(place, S3Place):
        await place.proxy.stalled.wait()
    elif isinstance(place, SftpPlace):
        await place.trouble.stalled.wait()
    else:
        assert isinstance(place, DropboxPlace)
        await place.double.stalled.wait()


@pytest.mark.timeout(180)
async def test_a_report_survives_kill_9(data: Path, place: Place) -> None:
    if isinstance(place, S3Place):
        # The second part: by then the upload has started.
        place.proxy.make("stall", after_bytes=8_600_000, in_all=True)
    elif isinstance(place, SftpPlace):
        place.trouble.make("stall", after_bytes=3_000_000)
    elif isinstance(place, DropboxPlace):
        place.double.failures.append(("append_v2", "stall"))
    async with sidecar(data, place) as (process, client):
        wanted = {"month": MONTH, "destination": "archive"}
        ordered = await client.post(
            "/v1/reports", json=wanted, headers={"Idempotency-Key": "march"}
        )
        assert ordered.status_code == 202, ordered.text
        async with asyncio.timeout(START_S):
            await freeze_mid_upload(process, place)
        process.kill()
    assert place.files() == {}
    if not isinstance(place, DropboxPlace):
        assert len(place.leftovers()) == 1
    async with sidecar(data, place) as (_, client):
        again = await client.post("/v1/reports", json=wanted, headers={"Idempotency-Key": "march"})
        assert again.json()["job_id"] == ordered.json()["job_id"]
        path = ordered.headers["location"]
        job = (await client.get(path, headers={"Prefer": "wait=30"})).json()
        assert (job["state"], job["attempts"]) == ("done", 2), job
        direct = (await client.get(f"/v1/reports/{MONTH}.csv")).content
    assert place.files() == {job["name"]: direct}
    assert place.leftovers() == []
