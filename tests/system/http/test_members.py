"""GET /v1/segments/{segment}/users on a real broker: pages, streams and errors."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import httpx

from tests.support import deployments
from tests.support.api import Api

MANY = 400


def filled(api: Api, count: int, **addition: Any) -> tuple[str, list[str]]:
    """A segment with `count` members, ordered by id."""
    segment = api.segment("members")
    users = sorted(str(uuid.uuid4()) for _ in range(count))
    commands = [
        {"type": "change_memberships", "user_id": user, "add": [{"segment": segment, **addition}]}
        for user in users
    ]
    body = "\n".join(json.dumps(command) for command in commands)
    headers = {"Content-Type": "application/x-ndjson"}
    assert api.client.post("/v1/commands", content=body, headers=headers).status_code == 202
    deployments.wait_until(lambda: size(api, segment) == count, what="every member")
    return segment, users


def size(api: Api, segment: str) -> int:
    return int(api.get(f"/v1/segments/{segment}").json()["size"])


def pages(api: Api, segment: str, limit: int) -> list[list[dict[str, Any]]]:
    found = []
    url: str | None = f"/v1/segments/{segment}/users?limit={limit}"
    while url is not None:
        response = api.get(url)
        assert response.status_code == 200, response.text
        found.append(response.json()["items"])
        url = response.links.get("next", {}).get("url")
        assert (url is None) == (response.json()["next"] is None)
    return found


def test_pages_have_every_member_once_in_order(api: Api) -> None:
    segment, users = filled(api, 25)
    found = pages(api, segment, 10)
    assert [len(page) for page in found] == [10, 10, 5]
    assert [item["user_id"] for page in found for item in page] == users
    assert found[0][0]["origin"] == "command"
    assert found[0][0]["expires_at"] is None
    assert pages(api, segment, 25)[0] == [item for page in found for item in page]


def test_streams_end_with_their_count(api: Api) -> None:
    segment, users = filled(api, MANY)
    path = f"/v1/segments/{segment}/users"
    lines = api.get(path, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert json.loads(lines[-1]) == {"count": MANY}
    assert [json.loads(line)["user_id"] for line in lines[:-1]] == users
    response = api.get(path, headers={"Accept": "text/csv"})
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = response.text.splitlines()
    assert rows[0] == "user;since;expires_at;origin"
    assert rows[-1] == f"count;{MANY}"
    assert [row.split(";")[0] for row in rows[1:-1]] == users
    for header in ("Segments-Position", "Segments-Staleness-Ms"):
        assert response.headers[header]


def test_a_permanent_member_is_listed_once_while_others_change(api: Api) -> None:
    segment, users = filled(api, 60)
    stop = threading.Event()

    def change_others() -> None:
        with httpx.Client(base_url=api.url, trust_env=False, timeout=60) as client:
            while not stop.is_set():
                other = str(uuid.uuid4())
                path = f"/v1/users/{other}/segments"
                client.patch(path, json={"add": [segment]})
                client.patch(path, json={"remove": [segment]})

    thread = threading.Thread(target=change_others)
    thread.start()
    try:
        for _ in range(3):
            seen = [item["user_id"] for page in pages(api, segment, 7) for item in page]
            assert len(seen) == len(set(seen))
            assert set(users) <= set(seen)
            assert seen == sorted(seen)
    finally:
        stop.set()
        thread.join()


def test_expired_members_are_not_listed(api: Api) -> None:
    segment, _ = filled(api, 5, ttl="PT1H")
    items = pages(api, segment, 10)[0]
    assert all(item["expires_at"] is not None for item in items)
    short = api.user()
    api.changed(short, add=[{"segment": segment, "ttl": 0.5}])

    def gone() -> bool:
        return short not in {item["user_id"] for item in pages(api, segment, 10)[0]}

    deployments.wait_until(gone, what="the end")
    assert len(pages(api, segment, 10)[0]) == 5


def test_a_cursor_does_not_outlive_its_segment(api: Api) -> None:
    segment, _ = filled(api, 3)
    following = api.get(f"/v1/segments/{segment}/users?limit=2").json()["next"]
    api.delete(segment)
    response = api.get(f"/v1/segments/{segment}/users")
    assert (response.status_code, response.json()["code"]) == (404, "segment_unknown")
    assert api.client.post("/v1/segments", json={"segment": segment}).status_code == 201
    response = api.get(f"/v1/segments/{segment}/users", params={"cursor": following})
    assert (response.status_code, response.json()["code"]) == (410, "segment_replaced")
    assert pages(api, segment, 10) == [[]]


def test_invalid_requests(api: Api) -> None:
    segment = api.segment()
    for path, status in (
        ("/v1/segments/no-such-segment/users", 404),
        (f"/v1/segments/{segment}/users?limit=0", 400),
        (f"/v1/segments/{segment}/users?limit=1001", 400),
        (f"/v1/segments/{segment}/users?cursor=nonsense", 400),
        (f"/v1/segments/{segment}/users?surprise=1", 400),
    ):
        response = api.get(path)
        assert response.status_code == status, path
        assert response.headers["Content-Type"] == "application/problem+json"


def test_a_disconnected_client_releases_its_stream(api: Api) -> None:
    segment, _ = filled(api, MANY)
    path = f"/v1/segments/{segment}/users"
    for _ in range(40):  # more than there may be at a time
        with api.client.stream("GET", path, headers={"Accept": "application/x-ndjson"}) as response:
            assert response.status_code == 200
    response = api.get(path, headers={"Accept": "text/csv"})
    assert response.text.splitlines()[-1] == f"count;{MANY}"
