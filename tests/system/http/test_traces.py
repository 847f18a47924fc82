"""The trace of a command on a real broker: from its sender to its result and its history row."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from tests.support.api import Api
from tests.support.deployments import wait_until
from tests.support.records import read, send

STATE = "congo=t61rcWkgMzE"


def trace_headers() -> dict[str, str]:
    return {"traceparent": f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-01", "tracestate": STATE}


def record_headers(api: Api, topic: str, command_id: str) -> list[dict[str, str]]:
    """The headers of every record of a command in a topic."""
    return [
        {name: value.decode() for name, value in record.headers.items()}
        for record in read(api.settings, topic)
        if record.value is not None and record.json["command_id"] == command_id
    ]


def assert_carried(api: Api, command_id: str, headers: dict[str, str]) -> None:
    for topic in ("segments.results", "segments.history"):
        assert record_headers(api, topic, command_id) == [headers]


def change(api: Api, **fields: Any) -> dict[str, Any]:
    add = [api.segment("traced")]
    return {"type": "change_memberships", "user_id": api.user(), "add": add} | fields


def test_a_producer_finds_its_trace_in_result_and_history(api: Api) -> None:
    headers = trace_headers()
    command_id = str(uuid.uuid4())
    command = orjson.dumps(change(api, id=command_id))
    sent = [(name, value.encode()) for name, value in headers.items()]
    send(api.settings, "segments.commands", [command], headers=sent)
    wait_until(lambda: record_headers(api, "segments.history", command_id), what="the row")
    assert_carried(api, command_id, headers)


def test_a_client_of_http_finds_its_trace_in_result_and_history(api: Api) -> None:
    headers = trace_headers()
    body = change(api)
    result = api.changed(body["user_id"], add=body["add"], headers=headers)
    assert_carried(api, result["command_id"], headers)
    without = api.changed(
        body["user_id"], remove=body["add"], headers={"traceparent": "00-rubbish"}
    )
    assert_carried(api, without["command_id"], {})


def test_all_commands_of_a_batch_belong_to_its_trace(api: Api) -> None:
    headers = trace_headers()
    lines = b"\n".join(orjson.dumps(change(api)) for _ in range(2))
    response = api.client.post(
        "/v1/commands", content=lines, headers=headers | {"Content-Type": "application/x-ndjson"}
    )
    assert response.status_code == 202, response.text
    for command_id in response.json()["command_ids"]:
        shown = api.get(f"/v1/commands/{command_id}", headers={"Prefer": "wait=20"})
        assert shown.json()["status"] == "applied"
        assert_carried(api, command_id, headers)
