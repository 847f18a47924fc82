"""Reports delivered to a destination by the command line and by the Python client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from segments.client import AsyncSegmentsClient, InvalidError, NotFoundError
from tests.support.destinations.jobs import direct, serving
from tests.support.destinations.places import FolderPlace
from tests.support.sidecar import Sidecar


@pytest.fixture
def archive(tmp_path: Path) -> FolderPlace:
    return FolderPlace(tmp_path / "archive")


async def segments(sidecar: Sidecar, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line against this sidecar."""
    url = f"http://127.0.0.1:{sidecar.port}"
    argv = [sys.executable, "-m", "segments.cli", "report", *arguments, "--url", url]
    return await asyncio.to_thread(
        subprocess.run, argv, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("destination", ["link", "archive"])
async def test_the_command_line_delivers_or_downloads(
    data: Path, archive: FolderPlace, destination: str
) -> None:
    """Delivers with `--destination`, downloads without it, whatever the default is."""
    async with serving(data, archive, destination=destination) as sidecar:
        expected = await direct(sidecar, "2025-02")
        put = await segments(sidecar, "2025-02", "--destination", "archive")
        assert put.returncode == 0, put.stderr
        [(name, there)] = archive.files().items()
        assert there == expected
        assert put.stdout == f"40 rows are at {(archive.folder / name).as_uri()}\n"
        here = await segments(sidecar, "2025-02")
        assert here.stdout.encode() == expected


async def test_the_command_line_with_json_and_with_failures(
    data: Path, archive: FolderPlace
) -> None:
    async with serving(data, archive) as sidecar:
        delivered = await segments(sidecar, "2025-02", "--destination", "archive", "--json")
        assert json.loads(delivered.stdout)["state"] == "done"
        unknown = await segments(sidecar, "2025-02", "--destination", "elsewhere")
        assert unknown.returncode == 1
        assert "the destinations are: link, archive" in unknown.stderr
        archive.folder.rename(archive.folder.with_name("away"))
        failed = await segments(sidecar, "2025-02", "--destination", "archive")
        assert failed.returncode == 1
        assert "No such file or directory" in failed.stderr
        both = await segments(sidecar, "2025-02", "--destination", "archive", "--link")
        assert both.returncode == 2


async def test_the_client_delivers_reports(data: Path, archive: FolderPlace) -> None:
    async with (
        serving(data, archive) as sidecar,
        AsyncSegmentsClient(f"http://127.0.0.1:{sidecar.port}") as client,
    ):
        job = await client.put_report("2025-02", "archive", header=True, idempotency_key="k")
        assert job.state in ("queued", "running", "done")
        done = await client.report_job(job.job_id, timeout_s=30)
        assert (done.state, done.rows_total, done.error) == ("done", 40, None)
        assert done.ended
        again = await client.put_report("2025-02", "archive", header=True, idempotency_key="k")
        assert again == done
        assert await client.cancel_report_job(job.job_id) == done
        with pytest.raises(NotFoundError):
            await client.report_job("none")
        with pytest.raises(InvalidError):
            await client.put_report("2025-02", "elsewhere")
