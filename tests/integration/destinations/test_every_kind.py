"""Properties of every kind of destination, on real servers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.destinations.jobs import direct, ended, order, put, serving
from tests.support.destinations.month import ROWS
from tests.support.destinations.places import Place


async def test_the_file_equals_the_downloaded_report_byte_for_byte(
    data: Path, place: Place
) -> None:
    async with serving(data, place) as sidecar:
        job = await put(sidecar)
        assert (job["state"], job["error"], job["attempts"]) == ("done", None, 1), job
        expected = await direct(sidecar)
    assert (job["rows_total"], job["rows_written"]) == (ROWS, ROWS)
    assert job["bytes_written"] == len(expected)
    assert job["complete_until"] == "2025-04-01T00:00:00.000Z"
    assert job["name"] == "2025-03_until-20250401T000000.000Z.csv"
    assert place.files() == {job["name"]: expected}
    assert place.leftovers() == []


@pytest.mark.parametrize(
    "filters",
    [
        {"header": True},
        {"segment": "é:1", "timezone": "Europe/Berlin", "operations": "all"},
        {"segment": "unknown"},
    ],
)
async def test_small_and_empty_reports_with_filters(
    data: Path, place: Place, filters: dict[str, Any]
) -> None:
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02", **filters)
        query = {name: "true" if value is True else value for name, value in filters.items()}
        expected = await direct(sidecar, "2025-02", **query)
    assert job["state"] == "done", job
    assert place.files() == {job["name"]: expected}
    assert job["rows_total"] == expected.count(b"\n") - (1 if filters.get("header") else 0)


async def test_repeating_a_report_replaces_its_file(data: Path, place: Place) -> None:
    async with serving(data, place, file_names="stable") as sidecar:
        first = await put(sidecar, month="2025-02")
        second = await put(sidecar, month="2025-02")
        expected = await direct(sidecar, "2025-02")
    assert (first["state"], second["state"]) == ("done", "done"), second
    assert first["name"] == second["name"] == "2025-02.csv"
    assert place.files() == {"2025-02.csv": expected}
    assert place.leftovers() == []


async def test_concurrent_jobs_for_the_same_report(data: Path, place: Place) -> None:
    async with serving(data, place, max_running=3, file_names="stable") as sidecar:
        ordered = [await order(sidecar, month="2025-02") for _ in range(6)]
        jobs = [await ended(sidecar, response) for response in ordered]
        expected = await direct(sidecar, "2025-02")
    assert [(job["state"], job["attempts"]) for job in jobs] == [("done", 1)] * 6, jobs
    assert place.files() == {"2025-02.csv": expected}
    assert place.leftovers() == []


LIBRARIES = {"s3": "aiobotocore.config", "sftp": "asyncssh", "dropbox": "dropbox"}


@pytest.mark.parametrize("place", LIBRARIES, indirect=True)
async def test_a_missing_extra_is_named_in_the_error(
    data: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[place.settings["kind"]], None)
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["attempts"], job["error"]["code"]) == (1, "not_installed"), job
    assert "install dynamic-segments[destinations]" in job["error"]["detail"]
