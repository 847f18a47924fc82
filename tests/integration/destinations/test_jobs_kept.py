"""Faults around report jobs: no job is lost, and none blocks the others."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from segments.destinations.folder import FolderUpload
from segments.http.reports.job_store import Job, JobStore
from segments.process import isolated_loop
from tests.support.destinations.jobs import ended, order, put, serving
from tests.support.destinations.places import FolderPlace

LONG_AGO_MS = 1_000
MONTH = "2025-02"


@pytest.fixture
def archive(tmp_path: Path) -> FolderPlace:
    return FolderPlace(tmp_path / "archive")


async def test_a_job_runs_although_its_client_disconnected(
    data: Path, archive: FolderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client disconnects while its job is being stored."""
    written = asyncio.Event()
    add = JobStore.add

    async def slow(jobs: JobStore, job: Job, max_queued: int) -> tuple[Job, bool]:
        added = await add(jobs, job, max_queued)
        written.set()
        await asyncio.sleep(60)
        return added

    async with serving(data, archive) as sidecar:
        with monkeypatch.context() as patched:
            patched.setattr(JobStore, "add", slow)
            request = asyncio.create_task(order(sidecar, month=MONTH))
            await written.wait()
            request.cancel()
            await asyncio.wait([request])
        [job] = (await sidecar.get("/v1/reports/jobs")).json()["items"]
        found = await sidecar.get(f"/v1/reports/jobs/{job['job_id']}", headers={"Prefer": "wait=9"})
        assert found.json()["state"] == "done"
        assert list(archive.files()) == [found.json()["name"]]


async def test_a_stored_job_that_is_no_longer_valid_fails_alone(
    data: Path, archive: FolderPlace
) -> None:
    """For example, its time zone was removed by an update of the time zone data."""
    async with serving(data, archive) as sidecar:
        job_id = (await put(sidecar, month=MONTH))["job_id"]
    with closing(sqlite3.connect(data / "http-0" / "reports.sqlite3")) as kept, kept:
        request = '{"month": "2025-02", "timezone": "Gone/Away"}'
        kept.execute(
            "UPDATE jobs SET request = ?, state = 'queued', complete_ms = NULL, name = NULL",
            [request],
        )
    async with serving(data, archive) as sidecar:
        assert (await put(sidecar, month=MONTH))["state"] == "done"
        job = (await sidecar.get(f"/v1/reports/jobs/{job_id}")).json()
        assert (job["state"], job["timezone"]) == ("failed", "Gone/Away")
        assert job["error"]["code"] == "internal"
        assert len((await sidecar.get("/v1/reports/jobs")).json()["items"]) == 2


async def test_the_sidecar_stops_although_its_job_cannot_be_requeued(
    data: Path, archive: FolderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = JobStore.change

    async def failing(jobs: JobStore, job_id: str, **values: Any) -> Job:
        if values.get("state") == "queued":
            raise sqlite3.OperationalError("database or disk is full")
        return await change(jobs, job_id, **values)

    monkeypatch.setattr(JobStore, "change", failing)
    async with asyncio.timeout(60):
        async with serving(data, archive) as sidecar:
            sidecar.services.watermark._marks.clear()
            sidecar.reach(5, at_ms=LONG_AGO_MS)
            response = await order(sidecar)
            waits = False
            while not waits:
                job = (await sidecar.get(response.headers["location"])).json()
                waits = job["error"] is not None
    monkeypatch.undo()
    async with serving(data, archive) as sidecar:
        assert (await ended(sidecar, response))["state"] == "done"


async def test_cancelling_waits_for_an_upload_that_is_being_completed(
    data: Path, archive: FolderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than for other steps: a store may take minutes to join the parts of an upload."""
    monkeypatch.setattr(isolated_loop, "END_S", 0.05)
    finishing, go_on = threading.Event(), threading.Event()
    finish = FolderUpload._finish

    def slow(upload: FolderUpload, sent_bytes: int) -> None:
        finishing.set()
        assert go_on.wait(60)
        finish(upload, sent_bytes)

    monkeypatch.setattr(FolderUpload, "_finish", slow)
    async with serving(data, archive) as sidecar:
        response = await order(sidecar, month=MONTH)
        assert await asyncio.to_thread(finishing.wait, 60)
        cancelling = asyncio.create_task(sidecar.client.delete(response.headers["location"]))
        assert await asyncio.wait([cancelling], timeout=0.5) == (set(), {cancelling})
        go_on.set()
        job = (await cancelling).json()
        assert job["state"] == "done", job
        assert list(archive.files()) == [job["name"]]
