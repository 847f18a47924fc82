"""Responses while processes are frozen, killed, or have lost their data."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from segments.contracts.times import from_rfc3339, to_rfc3339
from segments.http.app import view_folder
from tests.support import deployments
from tests.support.api import Api, Deployment
from tests.support.sidecar import assert_problem, report_rows


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def staleness_ms(response: httpx.Response) -> int:
    assert response.status_code == 200, response.text
    return int(response.headers["segments-staleness-ms"])


# --- shards ---


def test_staleness_grows_while_the_shards_are_frozen(running: Deployment) -> None:
    api = running.api
    user, first, second = api.user(), api.segment(), api.segment()
    api.changed(user, add=[first])
    path = f"/v1/users/{user}/segments"
    with running.frozen("shards"):
        frozen_at_s = time.monotonic()
        sent = api.change(user, add=[second], headers={"Prefer": "wait=1"})
        assert (sent.status_code, sent.json()["status"]) == (202, "pending")
        pending = api.get(sent.headers["location"])
        assert (pending.status_code, pending.json()["status"]) == (200, "pending")
        ages: list[int] = []
        while not ages or ages[-1] < 3_000:
            asked_s = time.monotonic()
            response = api.get(path)
            ages.append(staleness_ms(response))
            # Whatever the earlier markers said, none is newer than the freeze.
            assert ages[-1] >= (asked_s - frozen_at_s) * 1_000 - 500
            assert [held["segment"] for held in response.json()["segments"]] == [first]
        assert ages == sorted(ages)
        assert staleness_ms(api.get("/v1/segments?limit=1")) >= 3_000
        body = {"user_ids": [user]}
        assert staleness_ms(api.client.post("/v1/memberships/query", json=body)) >= 3_000
        assert api.get("/readyz").status_code == 503
        assert api.get("/livez").status_code == 200
    result = api.get(sent.headers["location"], headers={"Prefer": "wait=20"}).json()
    assert result["status"] == "applied"
    running.wait_until_ready()
    deployments.wait_until(lambda: staleness_ms(api.get(path)) < 3_000, what="a fresh answer")
    assert api.segments_of(user) == sorted([first, second])


# --- history ---


def test_no_report_is_incomplete_while_the_history_is_behind(running: Deployment) -> None:
    api = running.api
    user, first, second = api.user(), api.segment(), api.segment()
    began = api.changed(user, add=[first])
    assert len(api.history(user, began["position"]).json()["items"]) == 1
    month = datetime.now(UTC).strftime("%Y-%m")
    link = api.client.post("/v1/reports", json={"month": month, "user_id": user}).json()["url"]
    with running.frozen("history"):
        written = api.changed(user, add=[second])
        written_ms = from_rfc3339(written["at"])
        hurry = {"Prefer": "wait=0"}

        def report() -> httpx.Response:
            response = api.get(link, headers=hurry)
            if response.status_code == 200:
                # Covers what was complete before the freeze, as its header says.
                assert len(report_rows(response.text)) == 1
                assert from_rfc3339(response.headers["segments-complete-until"]) < written_ms
            return response

        refused = deployments.wait_until(
            lambda: response if (response := report()).status_code == 503 else None,
            what="a report that is refused",
        )
        problem = assert_problem(refused, 503, "history_behind")
        assert from_rfc3339(problem["complete_until"]) < written_ms
        assert refused.headers["segments-complete-until"] == problem["complete_until"]
        whole = api.history(user)
        assert [row["segment"] for row in whole.json()["items"]] == [first]
        assert from_rfc3339(whole.headers["segments-complete-until"]) < written_ms
        headers = {"Segments-Min-Position": written["position"], **hurry}
        for path in (f"/v1/users/{user}/history", link):
            assert_problem(api.get(path, headers=headers), 503, "history_behind")
        params = {"at": to_rfc3339(written_ms)}
        past = api.get(f"/v1/users/{user}/segments", params=params, headers=hurry)
        assert_problem(past, 503, "history_behind")
        why = api.get(f"/v1/users/{user}/segments/{second}").json()
        assert (why["segment"], why["why"]) == (second, None), "what is not known is not made up"
    position = {"Segments-Min-Position": written["position"], "Prefer": "wait=20"}
    opened = api.get(link, headers=position)
    assert opened.status_code == 200, opened.text
    assert [row[1] for row in report_rows(opened.text)] == [first, second]
    assert opened.headers["segments-row-count"] == "2"
    assert len(api.history(user, written["position"]).json()["items"]) == 2
    assert api.get(f"/v1/users/{user}/segments/{second}").json()["why"]["began"]


def test_a_report_equals_the_histories_of_its_users(running: Deployment) -> None:
    """The CSV behind a link has the rows of the users' histories, in order."""
    api = running.api
    segment = api.segment()
    users = [api.user() for _ in range(5)]
    for user in users:
        api.changed(user, add=[segment])
    last = [api.changed(user, remove=[segment]) for user in users[:3]]
    month = datetime.now(UTC).strftime("%Y-%m")
    body = {"month": month, "segment": segment, "timezone": "UTC", "header": True}
    link = api.client.post("/v1/reports", json=body).json()["url"]
    positions = {"Segments-Min-Position": ",".join(each["position"] for each in last)}
    response = api.get(link, headers=positions | {"Prefer": "wait=20"})
    assert response.status_code == 200, response.text
    header, _, lines = response.text.partition("\n")
    assert header == "user;segment;operation;datetime"
    wanted: list[Any] = []
    for user in users:
        rows = api.history(user, last[-1]["position"]).json()["items"]
        wanted += [(user, segment, r["operation"], from_rfc3339(r["at"])) for r in rows]
    assert sorted(report_rows(lines)) == sorted(wanted)
    instants = [row[3] for row in report_rows(lines)]
    assert instants == sorted(instants)
    assert response.headers["segments-row-count"] == "8"


# --- the sidecar itself ---


@contextmanager
def restarted(running: Deployment, *, crash: bool) -> Iterator[Path]:
    """The view's directory while the sidecar is stopped; restarts the sidecar afterwards."""
    if crash:
        running.process("http").kill()
    else:
        running.stop("http")
    yield view_folder(running.settings)
    running.start("http")


def first_answers(api: Api, user: str, segments: list[str]) -> set[int]:
    """Statuses of responses about a user until the first 200, which must be correct."""
    unknown = f"/v1/users/{uuid.uuid4()}/segments"
    statuses: set[int] = set()
    deadline_s = time.monotonic() + 60
    while 200 not in statuses:
        assert time.monotonic() < deadline_s, f"no answer; before: {statuses}"
        try:
            response = api.get(f"/v1/users/{user}/segments")
            missing = api.get(unknown)
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        statuses.add(response.status_code)
        if response.status_code == 200:
            shown = [held["segment"] for held in response.json()["segments"]]
            assert shown == segments
        else:
            assert_problem(response, 503, "not_ready")
        assert missing.json()["code"] in ("user_unknown", "not_ready")
    return statuses


def lose_nothing(_folder: Path) -> None:
    """Keep the view: the sidecar resumes."""


def lose_all(folder: Path) -> None:
    shutil.rmtree(folder)


def damage(folder: Path) -> None:
    files = [*folder.glob("MANIFEST-*"), *folder.glob("*.sst"), *folder.glob("*.log")]
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        content[::2] = b"\x5a" * len(content[::2])
        file.write_bytes(content)


@pytest.mark.parametrize("crash", [True, False], ids=["kill -9", "SIGTERM"])
@pytest.mark.parametrize("lose", [lose_nothing, lose_all, damage])
def test_a_restarted_sidecar_gives_no_wrong_response(
    running: Deployment, lose: Any, crash: bool
) -> None:
    api = running.api
    user, segment, deleted = api.user(), api.segment(), api.segment()
    api.changed(user, add=[segment, deleted])
    api.delete(deleted)
    position = api.changed(user, add=[segment])["position"]
    key = {"Idempotency-Key": uuid.uuid4().hex}
    command = api.change(user, add=[segment], headers=key).json()
    # Where the sidecar is killed it may have to read the last records again.
    api.get(f"/v1/users/{user}/segments", headers={"Segments-Min-Position": position})
    with restarted(running, crash=crash) as folder:
        lose(folder)
    first_answers(api, user, [segment])
    running.wait_until_ready()
    assert api.get(f"/v1/segments/{segment}").json()["size"] == 1
    assert_problem(api.get(f"/v1/segments/{deleted}"), 404, "segment_unknown")
    shown = api.get(f"/v1/commands/{command['command_id']}", headers={"Prefer": "wait=20"})
    assert shown.json() == command
    headers = {"Segments-Min-Position": position, "Prefer": "wait=20"}
    assert api.get(f"/v1/users/{user}/segments", headers=headers).status_code == 200
    assert len(api.history(user, position).json()["items"]) >= 2
