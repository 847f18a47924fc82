"""Freshness on a real broker: minimum positions and ETags."""

from __future__ import annotations

import time
import uuid

import pytest

from segments.contracts.partitioning import partition_of
from tests.support.api import Api
from tests.support.sidecar import assert_problem


def test_a_position_in_the_future(api: Api) -> None:
    user = api.user()
    partition = partition_of(user, api.settings.partitions)
    started_s = time.monotonic()
    response = api.get(
        f"/v1/users/{user}/segments",
        headers={"Segments-Min-Position": f"{partition}:999999999", "Prefer": "wait=1"},
    )
    assert_problem(response, 503, "stale")
    assert response.headers["retry-after"] == "1"
    assert 1 <= time.monotonic() - started_s < 30


@pytest.mark.parametrize(
    "position",
    ["", "1", "a:b", "0:-1", "0:1:2", "99:1", "0:1;1:2", "0:1,,1:2", "0:1," * 65 + "0:1"],
)
@pytest.mark.parametrize("path", ["segments", "segments/A", "history"])
def test_invalid_positions(api: Api, path: str, position: str) -> None:
    headers = {"Segments-Min-Position": position}
    response = api.get(f"/v1/users/{uuid.uuid4()}/{path}", headers=headers)
    assert_problem(response, 400, "invalid")


def test_every_position_of_the_request_is_waited_for(api: Api) -> None:
    """Also when they are in several headers."""
    user = api.user()
    mine = partition_of(user, api.settings.partitions)
    other = (mine + 1) % api.settings.partitions
    headers = [
        ("Segments-Min-Position", f"{mine}:0"),
        ("Segments-Min-Position", f"{other}:999999999"),
        ("Prefer", "wait=0"),
    ]
    path = f"/v1/users/{user}/segments"
    assert_problem(api.get(path, headers=headers), 503, "stale")
    assert api.get(path, headers=[("Segments-Min-Position", f"{mine}:0, {other}:0")]).is_success


def test_read_your_writes_by_position(api: Api) -> None:
    """A command without waiting, then a read with the position of its result."""
    user = api.user()
    segments = [api.segment() for _ in range(5)]
    for segment in segments:
        sent = api.change(user, add=[segment], headers={"Prefer": "respond-async"})
        result = api.get(sent.headers["location"], headers={"Prefer": "wait=20"}).json()
        headers = {"Segments-Min-Position": result["position"], "Prefer": "wait=20"}
        shown = api.get(f"/v1/users/{user}/segments", headers=headers)
        assert segment in {held["segment"] for held in shown.json()["segments"]}


def test_an_etag(api: Api) -> None:
    user, segment = api.user(), api.segment()
    api.changed(user, add=[segment])
    path = f"/v1/users/{user}/segments"
    first = api.get(path)
    etag = first.headers["etag"]
    assert api.get(path).headers["etag"] == etag
    for asked in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = api.get(path, headers={"If-None-Match": asked})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
        assert "segments-staleness-ms" in response.headers
    assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    api.changed(user, remove=[segment])
    changed = api.get(path, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["segments"]) == (200, [])


def test_head_is_get_without_a_body(api: Api) -> None:
    user = api.user()
    path = f"/v1/users/{user}/segments"
    response = api.client.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(len(api.get(path).content))
    assert api.client.head("/v1/users/none/segments").status_code == 400
