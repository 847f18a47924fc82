"""/v1/reports/jobs: creating, listing, reading and cancelling report jobs."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from segments.contracts.responses.reports import ReportJob, ReportJobPage
from segments.contracts.times import from_rfc3339
from segments.http.reports import attempt as report_attempt
from tests.support.destinations.jobs import direct, ended, order, put, serving
from tests.support.destinations.places import FolderPlace, sftp_place
from tests.support.sidecar import assert_problem, entry, running, store

HOURS_LATER_MS = 10_800_000


@pytest.fixture
def archive(tmp_path: Path) -> FolderPlace:
    return FolderPlace(tmp_path / "archive")


async def test_a_job_from_creation_to_completion(data: Path, archive: FolderPlace) -> None:
    async with serving(data, archive) as sidecar:
        response = await order(sidecar, month="2025-02", header=True)
        assert response.status_code == 202
        job = response.json()
        ReportJob.model_validate(job)
        assert response.headers["location"] == f"/v1/reports/jobs/{job['job_id']}"
        assert (job["destination"], job["month"], job["header"]) == ("archive", "2025-02", True)
        assert (job["url"], job["error"]) == (None, None)
        done = await ended(sidecar, response)
        ReportJob.model_validate(done)
        path = archive.folder / done["name"]
        assert done["url"] == path.as_uri()
        assert done["rows_total"] == done["rows_written"] == 40
        assert done["bytes_written"] == path.stat().st_size
        assert done["created_at"] <= done["started_at"] <= done["finished_at"]
        metrics = (await sidecar.get("/metrics")).text
        assert 'segments_report_jobs{kind="folder",state="done"} 1.0' in metrics
        assert 'segments_report_job_seconds_count{kind="folder",outcome="done"}' in metrics


async def test_link_returns_a_link_as_without_destinations(
    data: Path, archive: FolderPlace
) -> None:
    async with serving(data, archive) as sidecar:
        for destination in ({}, {"destination": "link"}):
            body = {"month": "2025-02", **destination}
            response = await sidecar.client.post("/v1/reports", json=body)
            assert response.status_code == 201
            assert response.json()["url"].endswith("/v1/reports/2025-02.csv")
    async with serving(data, archive, destination="archive") as sidecar:
        response = await sidecar.client.post("/v1/reports", json={"month": "2025-02"})
        assert (await ended(sidecar, response))["state"] == "done"
        body = {"month": "2025-02", "destination": "link"}
        assert (await sidecar.client.post("/v1/reports", json=body)).status_code == 201


async def test_locations_use_the_public_url(data: Path, archive: FolderPlace) -> None:
    archive.settings["public_url"] = "https://files.example/reports/{name}?raw=1"
    async with serving(data, archive) as sidecar:
        job = await put(sidecar, month="2025-02")
    name = job["name"].replace(":", "%3A")
    assert job["url"] == f"https://files.example/reports/{name}?raw=1"


async def test_invalid_requests_create_no_job(data: Path, archive: FolderPlace) -> None:
    async with serving(data, archive) as sidecar:
        problem = assert_problem(
            await order(sidecar, destination="elsewhere"), 422, "destination_unknown"
        )
        assert problem["detail"] == "the destinations are: link, archive"
        assert_problem(await order(sidecar, month="9998-12"), 404, "month_in_future")
        for body in ({"month": "2025-13"}, {"destination": ""}, {"destination": 7}):
            assert_problem(await order(sidecar, **body), 422, "invalid")
        assert_problem(await sidecar.get("/v1/reports/jobs/none"), 404, "job_unknown")
        assert_problem(await sidecar.client.delete("/v1/reports/jobs/none"), 404, "job_unknown")
        for query in ("limit=0", "cursor=x", "state=done"):
            assert_problem(await sidecar.get(f"/v1/reports/jobs?{query}"), 400, "invalid")
        assert (await sidecar.get("/v1/reports/jobs")).json() == {"items": [], "next": None}
    described = {"destinations": {"archive": archive.settings}}
    async with running(data, reports=described, partitions=[0]) as sidecar:
        assert_problem(await order(sidecar), 421, "partition_elsewhere")


async def test_an_idempotency_key_creates_one_job(data: Path, archive: FolderPlace) -> None:
    async with serving(data, archive) as sidecar:
        body = {"month": "2025-02", "destination": "archive"}
        headers = {"Idempotency-Key": "february"}

        async def ordered(fields: dict[str, Any]) -> Any:
            return await sidecar.client.post("/v1/reports", json=fields, headers=headers)

        both = await asyncio.gather(ordered(body), ordered(body))
        assert len({response.json()["job_id"] for response in both}) == 1
        job = await ended(sidecar, both[0])
        assert (await ordered(body)).json() == job
        assert_problem(await ordered({**body, "header": True}), 422, "idempotency_key_reused")


async def test_the_list_is_paged_newest_first(data: Path, archive: FolderPlace) -> None:
    async with serving(data, archive, keep_jobs=5) as sidecar:
        ids = [(await put(sidecar, month="2025-02"))["job_id"] for _ in range(7)]
        found: list[str] = []
        url = "/v1/reports/jobs?limit=2"
        while url:
            page = await sidecar.get(url)
            ReportJobPage.model_validate(page.json())
            found += [job["job_id"] for job in page.json()["items"]]
            url = page.links["next"]["url"] if page.json()["next"] else ""
    assert found == ids[:1:-1], "those that are too many are forgotten"


async def test_queued_jobs_wait_and_the_queue_is_bounded(data: Path, tmp_path: Path) -> None:
    async with (
        sftp_place(tmp_path / "reports") as place,
        serving(data, place, max_queued=1) as sidecar,
    ):
        place.trouble.make("stall", after_bytes=0)
        first = await order(sidecar)
        async with asyncio.timeout(60):
            await place.trouble.stalled.wait()
        shown = (await sidecar.get(first.headers["location"])).json()
        assert (shown["state"], shown["rows_total"]) == ("running", 120_000)
        second = await order(sidecar, month="2025-02")
        assert second.json()["state"] == "queued"
        third = await order(sidecar, month="2025-01")
        assert_problem(third, 503, "busy")
        assert third.headers["retry-after"] == "30"
        waited = await sidecar.get(second.headers["location"], headers={"Prefer": "wait=0"})
        assert waited.json()["state"] == "queued"
        cancelled = await sidecar.client.delete(second.headers["location"])
        assert cancelled.json()["error"]["code"] == "cancelled"
        again = await sidecar.client.delete(second.headers["location"])
        assert again.json() == cancelled.json()
        cancelled = await sidecar.client.delete(first.headers["location"])
        assert cancelled.json()["error"]["code"] == "cancelled"
        assert (await put(sidecar, month="2025-02"))["state"] == "done"


async def test_a_graceful_stop_requeues_the_running_job(data: Path, tmp_path: Path) -> None:
    async with sftp_place(tmp_path / "reports") as place:
        place.trouble.make("stall", after_bytes=3_000_000)
        async with serving(data, place) as sidecar:
            response = await order(sidecar)
            async with asyncio.timeout(60):
                await place.trouble.stalled.wait()
        async with serving(data, place) as sidecar:
            job = await ended(sidecar, response)
            assert (job["state"], job["attempts"]) == ("done", 1), job
            assert place.files() == {job["name"]: await direct(sidecar)}
        assert place.leftovers() == []


async def test_a_destination_removed_before_a_restart(
    data: Path, archive: FolderPlace, tmp_path: Path
) -> None:
    async with sftp_place(tmp_path / "reports") as place:
        place.trouble.make("stall", after_bytes=0)
        async with serving(data, place) as sidecar:
            response = await order(sidecar)
            async with asyncio.timeout(60):
                await place.trouble.stalled.wait()
    async with running(data, reports={"destinations": {"other": archive.settings}}) as sidecar:
        job = await ended(sidecar, response)
    assert (job["state"], job["error"]["code"]) == ("failed", "destination_unknown"), job


async def test_the_current_month_with_a_history_store_that_is_behind(
    tmp_path: Path, archive: FolderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job waits for the store and reports that; rows after `complete_until` are left out."""
    monkeypatch.setattr(report_attempt, "WATERMARK_POLL_S", 0.02)
    now_ms = time.time_ns() // 1_000_000
    month = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")
    user = "00000000-0000-4000-8000-000000000000"
    complete_ms = now_ms + 60_000
    store(tmp_path, [entry(0, 0, complete_ms, user), entry(0, 1, complete_ms + 1, user)])
    async with serving(tmp_path, archive) as sidecar:
        sidecar.services.watermark._marks.clear()
        sidecar.reach(5, at_ms=now_ms - HOURS_LATER_MS)
        response = await order(sidecar, month=month)
        while True:
            job = (await sidecar.get(response.headers["location"])).json()
            if job["error"] is not None:
                break
            await asyncio.sleep(0.01)
        assert (job["state"], job["error"]["code"]) == ("running", "history_behind"), job
        assert job["complete_until"] is None
        sidecar.reach(6, at_ms=complete_ms)
        job = await ended(sidecar, response)
        assert (job["state"], job["error"], job["rows_total"]) == ("done", None, 1), job
        assert from_rfc3339(job["complete_until"]) == complete_ms
        assert list(archive.files()) == [job["name"]]
        assert job["name"].startswith(f"{month}_until-")
        # The request waits for its minimum position before the job is created.
        headers = {"Segments-Min-Position": "0:7", "Prefer": "wait=0"}
        body = {"month": month, "destination": "archive"}
        stale = await sidecar.client.post("/v1/reports", json=body, headers=headers)
        assert_problem(stale, 503, "stale")


async def test_a_damaged_job_store_is_recreated(data: Path, archive: FolderPlace) -> None:
    async with serving(data, archive) as sidecar:
        await put(sidecar, month="2025-02")
    file = data / "http-0" / "reports.sqlite3"
    assert file.stat().st_mode & 0o077 == 0
    file.write_bytes(b"no database" * 1_000)
    async with serving(data, archive) as sidecar:
        assert (await sidecar.get("/v1/reports/jobs")).json()["items"] == []
        assert (await put(sidecar, month="2025-02"))["state"] == "done"
    assert len(list(file.parent.glob("reports.sqlite3.damaged-*"))) == 1
