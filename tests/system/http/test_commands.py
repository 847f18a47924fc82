"""/v1/commands on a real broker: batches, and results of commands."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import orjson
import pytest

from tests.support import deployments
from tests.support.api import Api
from tests.support.records import read
from tests.support.sidecar import assert_problem

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}


def lines(commands: list[Any]) -> bytes:
    return b"\n".join(map(orjson.dumps, commands))


def send(api: Api, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return api.client.post("/v1/commands", content=content, headers=NDJSON | (headers or {}))


def change(user: str, add: list[Any], **fields: Any) -> dict[str, Any]:
    return {"type": "change_memberships", "user_id": user, "add": add, **fields}


def result(api: Api, command_id: str) -> dict[str, Any]:
    response = api.get(f"/v1/commands/{command_id}", headers={"Prefer": "wait=20"})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_ten_thousand_commands(api: Api) -> None:
    segment = api.segment()
    users = [str(uuid.uuid4()) for _ in range(9_999)]
    commands = [change(user, [segment]) for user in users]
    commands.append({"type": "create_segment", "segment": f"last-{uuid.uuid4().hex}"})
    response = send(api, lines(commands))
    assert response.status_code == 202
    body = response.json()
    assert body["accepted"] == len(set(body["command_ids"])) == 10_000
    path = f"/v1/segments/{segment}"
    deployments.wait_until(lambda: api.get(path).json()["size"] == 9_999, 110, what="all members")
    for number in (0, 5_000, 9_999):
        assert result(api, body["command_ids"][number])["status"] == "applied"


def test_one_invalid_line_rejects_the_batch(api: Api) -> None:
    segment = f"taken-{uuid.uuid4().hex}"
    good = {"type": "create_segment", "segment": segment, "id": segment}
    bad = {"type": "create_segment", "segment": "=bad", "owner": "x"}
    content = lines([good, bad]) + b"\n{\n" + lines([{"type": "make"}, 7, {}, good])
    problem = assert_problem(send(api, content), 422, "invalid")
    assert [(error["line"], error["field"]) for error in problem["errors"]] == [
        ("2", "segment"),
        ("2", "owner"),
        ("3", ""),
        ("4", ""),
        ("5", ""),
        ("6", ""),
    ]
    assert_problem(api.get(f"/v1/commands/{segment}"), 404, "command_unknown")
    after = f"after-{uuid.uuid4().hex}"
    done = api.client.post("/v1/segments", json={"segment": after})
    position = {"Segments-Min-Position": done.json()["position"]}
    assert_problem(api.get(f"/v1/segments/{segment}", headers=position), 404, "segment_unknown")
    sent = {record.json.get("id") for record in read(api.settings, "segments.commands")}
    assert segment not in sent


@pytest.mark.parametrize("count", [0, 10_001, 30_000])
def test_too_many_commands_or_none(api: Api, count: int) -> None:
    problem = assert_problem(send(api, b"{}\n" * count), 422, "invalid")
    assert problem["detail"].startswith("1 to 10000")


def test_at_most_twenty_errors_are_returned(api: Api) -> None:
    problem = assert_problem(send(api, b"{}\n" * 10_000), 422, "invalid")
    assert len(problem["errors"]) == 20


def test_line_ends(api: Api) -> None:
    first, second = f"a-{uuid.uuid4().hex}", f"b-{uuid.uuid4().hex}"
    commands = [{"type": "create_segment", "segment": name} for name in (first, second)]
    content = b"\n\n  \n" + lines(commands).replace(b"\n", b"\r\n\r\n") + b"\r\n\n"
    body = send(api, content).json()
    assert body["accepted"] == 2
    assert [result(api, each)["status"] for each in body["command_ids"]] == ["applied"] * 2


def test_a_single_command_as_json(api: Api) -> None:
    name = f"single-{uuid.uuid4().hex}"
    content = orjson.dumps({"type": "create_segment", "segment": name}, option=orjson.OPT_INDENT_2)
    response = api.client.post("/v1/commands", content=content, headers=JSON)
    assert response.status_code == 202
    [command_id] = response.json()["command_ids"]
    assert result(api, command_id)["status"] == "applied"


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{}", {"Content-Type": "text/csv"}, 415, "content_type"),
        (b" " * 16_777_217, {}, 413, "body_too_large"),
        (b" " * 1_048_577, JSON, 413, "body_too_large"),
        (b'{"a": "%s"}' % (b"a" * 1_048_576), {}, 413, "body_too_large"),
        (b"\n" * 16_777_216, {}, 422, "invalid"),
        (b"\xff\xfe", {}, 422, "invalid"),
        (b"[" * 1_000_000, {}, 422, "invalid"),
    ],
)
def test_invalid_bodies(
    api: Api, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    assert_problem(send(api, content, headers), status, code)


def test_lines_of_one_user_keep_their_order(api: Api) -> None:
    user, segments = api.user(), [api.segment() for _ in range(4)]
    commands = []
    for _ in range(50):
        commands += [change(user, [segment]) for segment in segments]
        commands += [{**change(user, []), "remove": segments[1:]}]
    # An upper-case id is the same user, so it must go to the same partition.
    for command in commands[::2]:
        command["user_id"] = command["user_id"].upper()
    body = send(api, lines(commands)).json()
    last = result(api, body["command_ids"][-1])
    assert last["status"] == "applied"
    position = {"Segments-Min-Position": last["position"]}
    shown = api.get(f"/v1/users/{user}/segments", headers=position).json()["segments"]
    assert [held["segment"] for held in shown] == segments[:1]


def test_a_batch_repeated_with_its_key(api: Api) -> None:
    user, segment = api.user(), api.segment()
    key = {"Idempotency-Key": f"batch-{uuid.uuid4().hex}"}
    content = lines([change(user, [segment]), {**change(user, []), "remove": [segment]}])
    first = send(api, content, key).json()
    last = result(api, first["command_ids"][-1])
    again = send(api, content, key).json()
    assert again == first
    other = send(api, content).json()
    assert set(other["command_ids"]).isdisjoint(first["command_ids"])
    position = result(api, other["command_ids"][-1])["position"]
    rows = api.history(user, position).json()["items"]
    assert len(rows) == 4, "the repetition wrote none"
    assert last["status"] == "applied"


def test_ids_of_lines_are_kept(api: Api) -> None:
    user, segment = api.user(), api.segment()
    own = f"own/{uuid.uuid4()} ü"
    body = send(api, lines([change(user, [segment], id=own, actor="me")])).json()
    assert body["command_ids"] == [own]
    assert result(api, own.replace("/", "%2F"))["command_id"] == own
    position = result(api, own.replace("/", "%2F"))["position"]
    [row] = api.history(user, position).json()["items"]
    assert (row["command_id"], row["actor"]) == (own, "me")


def test_an_unknown_command(api: Api) -> None:
    path = f"/v1/commands/{uuid.uuid4()}"
    assert_problem(api.get(path), 404, "command_unknown")
    assert_problem(api.get(path, headers={"Prefer": "respond-async"}), 404, "command_unknown")
    assert_problem(api.get(path, headers={"Prefer": "wait=1"}), 404, "command_unknown")


def test_a_command_sent_by_another_service(api: Api) -> None:
    """The wait starts before the command is sent."""
    import concurrent.futures  # noqa: PLC0415 - here only

    from tests.support.records import send as produce  # noqa: PLC0415 - beside the other `send`

    name = f"foreign-{uuid.uuid4().hex}"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(result, api, name)
        command = {"type": "create_segment", "segment": name, "id": name}
        produce(api.settings, "segments.commands", [orjson.dumps(command)])
        assert waiting.result()["status"] == "applied"
    bad = f"bad-{uuid.uuid4().hex}"
    produce(api.settings, "segments.commands", [orjson.dumps({"type": "x", "id": bad})])
    found = result(api, bad)
    assert (found["status"], found["error"]["code"]) == ("rejected", "invalid")
    assert found["position"] is None
