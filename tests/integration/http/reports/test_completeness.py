"""Reports are complete or fail: stores that are behind, the current month, damaged stores."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from segments.contracts.partitioning import partition_of
from segments.contracts.times import from_rfc3339
from segments.settings import Settings
from segments.state.history.sqlite import database_path
from tests.support.sidecar import PARTITIONS, assert_problem, entry, report_rows, running, store

USERS = [str(UUID(int=n)) for n in range(1, 3)]


async def test_a_store_that_is_behind_gives_no_report(tmp_path: Path) -> None:
    """While one row of one partition is missing, every report that includes it is refused."""
    end_ms = from_rfc3339("2025-04-01T00:00:00Z")
    late = entry(1, 9, end_ms - 5, USERS[0])
    store(tmp_path, [entry(0, 0, end_ms - 10, USERS[0]), entry(1, 0, end_ms - 20, USERS[0])])
    async with running(tmp_path) as sidecar:
        services = sidecar.services
        services.watermark._marks.clear()
        sidecar.reach(5, at_ms=end_ms - 8, history_rows=1)
        sidecar.reach(6, at_ms=end_ms + 1, history_rows=1)
        services.watermark._marks[1][-1:] = [(1, end_ms - 8), (2, end_ms + 1)]
        started_s = time.monotonic()
        response = await sidecar.get("/v1/reports/2025-03.csv", headers={"Prefer": "wait=1"})
        assert 1 <= time.monotonic() - started_s < 60
        until = "2025-03-31T23:59:59.992Z"
        assert_problem(response, 503, "history_behind", complete_until=until)
        assert response.headers["segments-complete-until"] == until
        assert response.headers["retry-after"] == "1"
        february = await sidecar.get("/v1/reports/2025-02.csv", headers={"Prefer": "wait=0"})
        assert (february.status_code, february.text) == (200, "")
        user = f"/v1/users/{USERS[0]}/segments"
        at = {"at": "2025-03-31T23:59:59.993Z"}
        past = await sidecar.get(user, params=at, headers={"Prefer": "wait=0"})
        until_9_992 = partition_of(USERS[0], PARTITIONS) == 1
        assert past.status_code == (503 if until_9_992 else 200)
        store(tmp_path, [late])
        whole = await sidecar.get("/v1/reports/2025-03.csv", headers={"Prefer": "wait=20"})
        assert whole.status_code == 200
        assert len(report_rows(whole.text)) == 3


async def test_the_current_month(tmp_path: Path) -> None:
    """Complete up to about now, with that timestamp in a header; newer rows are left out."""
    now_ms = time.time_ns() // 1_000_000
    complete_ms = now_ms - 1_000
    month = datetime.fromtimestamp(complete_ms / 1000, UTC).strftime("%Y-%m")
    store(
        tmp_path,
        [
            entry(0, 0, complete_ms, USERS[0]),
            entry(0, 1, complete_ms + 1, USERS[1]),
        ],
    )
    async with running(tmp_path, ready_lag_ms=3_600_000) as sidecar:
        sidecar.services.watermark._marks.clear()
        sidecar.reach(5, at_ms=complete_ms)
        headers = {"Prefer": "wait=0"}
        response = await sidecar.get(f"/v1/reports/{month}.csv", headers=headers)
        assert [row[0] for row in report_rows(response.text)] == [USERS[0]]
        assert from_rfc3339(response.headers["segments-complete-until"]) == complete_ms
        position = headers | {"Segments-Min-Position": "0:5"}
        response = await sidecar.get(f"/v1/reports/{month}.csv", headers=position)
        assert_problem(response, 503, "history_behind")
        position["Segments-Min-Position"] = "0:6"
        response = await sidecar.get(f"/v1/reports/{month}.csv", headers=position)
        assert_problem(response, 503, "stale")
        # The record at the position has a timestamp that only the next marker covers.
        position["Prefer"] = "wait=20"
        asking = asyncio.create_task(sidecar.get(f"/v1/reports/{month}.csv", headers=position))
        offset = 6
        while not asking.done():
            sidecar.reach(offset, at_ms=now_ms + 3_600_000 + offset)
            offset += 1
            await asyncio.sleep(0.01)
        assert [row[0] for row in report_rows(asking.result().text)] == USERS[:2]


async def test_a_store_with_damaged_pages(tmp_path: Path) -> None:
    store(tmp_path, [entry(0, n, 1_740_000_000_000 + n, USERS[0]) for n in range(20_000)])
    path = database_path(Settings(data_dir=tmp_path))
    content = bytearray(path.read_bytes())
    for page in range(8, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    async with running(tmp_path) as sidecar:
        response = await sidecar.get("/v1/reports/2025-02.csv")
        assert_problem(response, 503, "history_unavailable")
        assert sidecar.services.streams.running == 0
