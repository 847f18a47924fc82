"""A sidecar returns 503 rather than a wrong or stale answer, on every route."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from segments.contracts.partitioning import partition_of
from tests.support.sidecar import PARTITIONS, Sidecar, assert_problem, running, store
from tests.support.view.view_records import held

USER = str(UUID(int=1))
READS: list[tuple[str, str, Any]] = [
    ("GET", f"/v1/users/{USER}/segments", None),
    ("GET", f"/v1/users/{USER}/segments/A", None),
    ("GET", f"/v1/users/{USER}/segments?at=2026-01-01T00:00:00Z", None),
    ("GET", f"/v1/users/{USER}/history", None),
    ("POST", "/v1/memberships/query", {"user_ids": [USER]}),
    ("POST", "/v1/memberships/query", {"user_ids": [USER], "segments": ["A"]}),
    ("GET", "/v1/segments", None),
    ("GET", "/v1/segments/A", None),
    ("GET", "/v1/commands/c", None),
    ("GET", "/v1/reports/2026-01.csv", None),
    ("GET", f"/dev/users/{USER}", None),
]


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        yield sidecar


@pytest.mark.parametrize(("method", "path", "body"), READS)
async def test_a_view_that_is_being_built(
    sidecar: Sidecar, method: str, path: str, body: Any
) -> None:
    """Even for users that it contains: what is missing may exist."""
    sidecar.services.view.complete = False
    response = await sidecar.client.request(method, path, json=body)
    assert_problem(response, 503, "not_ready")
    assert response.headers["retry-after"] == "1"
    sidecar.define("A")
    sidecar.user(USER, {"A": held()})
    if "history" not in path:
        assert_problem(await sidecar.client.request(method, path, json=body), 503, "not_ready")


@pytest.mark.parametrize(("method", "path", "body"), READS)
async def test_a_partition_without_a_progress_marker(
    sidecar: Sidecar, method: str, path: str, body: Any
) -> None:
    sidecar.services.view.progress = {}
    sidecar.services.watermark._marks.clear()
    response = await sidecar.client.request(method, path, json=body, headers={"Prefer": "wait=0"})
    if path.startswith("/v1/commands"):
        assert_problem(response, 404, "command_unknown")
    elif path.startswith("/v1/reports"):
        assert_problem(response, 503, "history_behind", complete_until=None)
    else:
        assert_problem(response, 503, "not_ready")


async def test_a_stale_view_answers_with_its_staleness(sidecar: Sidecar) -> None:
    sidecar.define("A")
    sidecar.user(USER, {"A": held()})
    hour_ago_ms = time.time_ns() // 1_000_000 - 3_600_000
    sidecar.reach(7, at_ms=hour_ago_ms)
    for method, path, body in READS:
        if "history" in path or "at=" in path or "reports" in path or "commands" in path:
            continue
        response = await sidecar.client.request(method, path, json=body)
        assert response.status_code == 200, path
        assert 3_600_000 <= int(response.headers["segments-staleness-ms"]) < 3_700_000
        assert f"{partition_of(USER, PARTITIONS)}:7" in response.headers["segments-position"]


async def test_a_response_is_as_fresh_as_its_headers_while_the_view_advances(
    sidecar: Sidecar,
) -> None:
    """Positions are taken before the documents are read, for all users of a query."""
    users = [str(UUID(int=n)) for n in range(1, 201)]
    for user in users:
        sidecar.user(user, {})
    seen: list[str] = []
    real = sidecar.services.view.response

    def answer(user_id: str, now_ms: int) -> Any:
        if not seen:
            sidecar.reach(99)
        seen.append(user_id)
        return real(user_id, now_ms)

    sidecar.services.view.response = answer  # type: ignore[method-assign] # watched
    response = await sidecar.client.post("/v1/memberships/query", json={"user_ids": users})
    assert response.headers["segments-position"] == "0:1,1:1"
    seen.clear()
    sidecar.reach(100)
    response = await sidecar.get(f"/v1/users/{USER}/segments")
    assert response.headers["segments-position"].endswith(":100")


async def test_responses_have_at_most_as_many_positions_as_requests(sidecar: Sidecar) -> None:
    marker = sidecar.services.view.progress[0]
    progress = dict.fromkeys(range(65), marker)
    few = sidecar.services.freshness_of(set(range(64)), progress)
    assert few["Segments-Position"].count(",") == 63
    assert list(sidecar.services.freshness_of(set(range(65)), progress)) == [
        "Segments-Staleness-Ms"
    ]


# --- readiness ---


async def checks(sidecar: Sidecar) -> dict[str, str]:
    response = await sidecar.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "not_ready"
    found: dict[str, str] = response.json()["checks"]
    return {name: fault for name, fault in found.items() if fault != "ok"}


async def test_ready(sidecar: Sidecar) -> None:
    response = await sidecar.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})
    assert (await sidecar.client.head("/readyz")).status_code == 200


async def test_failed_readiness_checks(sidecar: Sidecar) -> None:
    sidecar.view_consumer.caught_up = False
    assert list(await checks(sidecar)) == ["feed"]
    sidecar.view_consumer.alive = False
    assert await checks(sidecar) == {"feed": "the consumer has stopped"}
    sidecar.view_consumer.alive = sidecar.view_consumer.caught_up = True
    sidecar.services.view.complete = False
    assert await checks(sidecar) == {"view": "the view is being built"}
    sidecar.services.view.complete = True
    sidecar.reach(2, at_ms=time.time_ns() // 1_000_000 - 60_000)
    assert "old" in (await checks(sidecar))["view"]
    sidecar.services.view.progress = {0: sidecar.services.view.progress[0]}
    assert await checks(sidecar) == {"view": "no data from partitions [1]"}
    verbose = (await sidecar.get("/readyz?verbose")).json()
    assert list(verbose["partitions"]) == ["0"]


async def test_not_ready_without_a_history_store(tmp_path: Path) -> None:
    async with running(tmp_path) as sidecar:
        assert "no history store" in (await checks(sidecar))["history"]
        for path in (
            f"/v1/users/{USER}/history",
            f"/v1/users/{USER}/segments?at=2026-01-01T00:00:00Z",
            "/v1/reports/2026-01.csv",
        ):
            assert_problem(await sidecar.get(path), 503, "history_unavailable")
        sidecar.define("A")
        sidecar.user(USER, {"A": held()})
        shown = await sidecar.get(f"/v1/users/{USER}/segments/A")
        assert (shown.status_code, shown.json()["why"]) == (200, None)
        store(tmp_path, [])
        assert (await sidecar.get("/readyz")).status_code == 200


async def test_a_history_store_that_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "history.sqlite3").write_bytes(b"nothing of the kind" * 100)
    async with running(tmp_path) as sidecar:
        assert_problem(await sidecar.get("/v1/reports/2026-01.csv"), 503, "history_unavailable")
        assert "history" in await checks(sidecar)


async def test_a_sidecar_with_some_partitions(tmp_path: Path) -> None:
    store(tmp_path, [])
    mine, other = sorted(
        (str(UUID(int=n)) for n in range(2, 30)), key=lambda user: partition_of(user, PARTITIONS)
    )[::27]
    async with running(tmp_path, partitions=[0]) as sidecar:
        sidecar.services.view.progress = {0: sidecar.services.view.progress[0]}
        assert (await sidecar.get("/readyz")).status_code == 200
        sidecar.user(mine, {})
        assert (await sidecar.get(f"/v1/users/{mine}/segments")).status_code == 200
        for path in ("segments", "segments/A", "history", "segments?at=2026-01-01T00:00:00Z"):
            response = await sidecar.get(f"/v1/users/{other}/{path}")
            assert_problem(response, 421, "partition_elsewhere")
        query = {"user_ids": [mine, other]}
        response = await sidecar.client.post("/v1/memberships/query", json=query)
        assert_problem(response, 421, "partition_elsewhere")
        change = {"add": ["A"]}
        response = await sidecar.client.patch(f"/v1/users/{other}/segments", json=change)
        assert_problem(response, 421, "partition_elsewhere")
        assert_problem(await sidecar.get("/v1/reports/2026-01.csv"), 421, "partition_elsewhere")
        assert sidecar.producer.sent == []
