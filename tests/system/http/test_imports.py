"""POST /dev/users/import on a real broker: each line is accepted or rejected on its own."""

from __future__ import annotations

import gzip
import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support import deployments
from tests.support.api import Api

PATH = "/dev/users/import"
NDJSON = {"Content-Type": "application/x-ndjson"}


def ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def ndjson(users: list[str], state: str = "active") -> bytes:
    return b"".join(
        json.dumps({"user_id": user, "state": state}).encode() + b"\n" for user in users
    )


def accounts(api: Api, users: list[str]) -> set[str | None]:
    response = api.client.post("/v1/memberships/query", json={"user_ids": users})
    return {item["account"] for item in response.json()["items"]}


def wait_until_imported(api: Api, users: list[str], state: str = "active") -> None:
    deployments.wait_until(lambda: accounts(api, users) == {state}, what="every user")


def post(api: Api, body: Any, **headers: str) -> httpx.Response:
    return api.client.post(PATH, content=body, headers=NDJSON | headers)


def test_import_ndjson_twice(api: Api) -> None:
    users = ids(2_000)
    for _ in range(2):
        response = post(api, ndjson(users))
        assert response.status_code == 200, response.text
        assert response.json() == {"accepted": 2_000, "refused": 0, "errors": []}
    wait_until_imported(api, users)
    assert post(api, ndjson(users[:5], "blocked")).json()["accepted"] == 5
    wait_until_imported(api, users[:5], "blocked")


@pytest.mark.parametrize("separator", [";", ","])
@pytest.mark.parametrize("header", ["", "user_id{}state\n"])
def test_import_csv(api: Api, separator: str, header: str) -> None:
    users = ids(20)
    text = header.format(separator) + "\r\n".join(f"{u.upper()}{separator}active" for u in users)
    response = api.client.post(PATH, content=text, headers={"Content-Type": "text/csv"})
    assert response.json() == {"accepted": 20, "refused": 0, "errors": []}
    wait_until_imported(api, users)


def test_gzip_of_several_members(api: Api) -> None:
    users = ids(500)
    packed = gzip.compress(ndjson(users[:250])) + gzip.compress(ndjson(users[250:]))
    response = post(api, packed, **{"Content-Encoding": "gzip"})
    assert response.json()["accepted"] == 500
    wait_until_imported(api, users)


def test_invalid_lines_are_rejected_with_reasons_and_others_accepted(api: Api) -> None:
    good = ids(3)
    lines = [
        ndjson(good[:1]),
        b'{"user_id": "no-uuid", "state": "active"}\n',
        b'{"user_id": "%s"}\n' % good[0].encode(),
        b'{"user_id": "%s", "state": "sleeping"}\n' % good[0].encode(),
        b'{"user_id": "%s", "state": "active", "more": 1}\n' % good[0].encode(),
        b"not json\n",
        b"\xff\xfe\n",
        b"\n",
        b"x" * 10_000_000 + b"\n",
        ndjson(good[1:]),
    ]
    response = post(api, b"".join(lines))
    assert response.status_code == 200
    counts = response.json()
    assert (counts["accepted"], counts["refused"]) == (3, 7)
    assert [error["line"] for error in counts["errors"]] == [2, 3, 4, 5, 6, 7, 9]
    assert counts["errors"][0]["field"] == "user_id"
    assert counts["errors"][-1]["detail"] == "a line has at most 4096 bytes"
    wait_until_imported(api, good)


def test_a_truncated_gzip_body_reports_the_accepted_lines(api: Api) -> None:
    users = ids(5_000)
    packed = gzip.compress(ndjson(users))
    response = post(api, packed[: len(packed) // 2], **{"Content-Encoding": "gzip"})
    assert response.status_code == 400
    problem = response.json()
    assert problem["code"] == "bad_body"
    assert 0 < problem["accepted"] < 5_000
    wait_until_imported(api, users[: problem["accepted"] - 1])
    assert post(api, packed, **{"Content-Encoding": "gzip"}).json()["accepted"] == 5_000
    wait_until_imported(api, users)


def test_invalid_gzip_and_other_encodings_are_rejected(api: Api) -> None:
    response = post(api, ndjson(ids(1)), **{"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()["code"]) == (400, "bad_body")
    response = post(api, b"", **{"Content-Encoding": "br"})
    assert (response.status_code, response.json()["code"]) == (415, "content_encoding")
    response = api.client.post(PATH, content=b"", headers={"Content-Type": "application/json"})
    assert response.status_code == 415
    response = api.client.patch(
        f"/v1/users/{ids(1)[0]}/segments",
        content=gzip.compress(b'{"add": ["a"]}'),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert (response.status_code, response.json()["code"]) == (415, "content_encoding")


def test_complete_lines_of_a_disconnected_client_are_accepted(api: Api) -> None:
    users = ids(300)
    url = httpx.URL(api.url)
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        connection.sendall(head.encode() + b"Content-Length: 100000000\r\n\r\n")
        connection.sendall(ndjson(users) + b'{"user_id": "')
        wait_until_imported(api, users)
    assert post(api, ndjson(users)).json()["accepted"] == 300


def test_a_chunked_body_is_imported_as_it_arrives(api: Api) -> None:
    users = ids(1_000)

    def pieces() -> Iterator[bytes]:
        whole = ndjson(users)
        for at in range(0, len(whole), 777):
            yield whole[at : at + 777]

    assert post(api, pieces()).json()["accepted"] == 1_000
    wait_until_imported(api, users)
