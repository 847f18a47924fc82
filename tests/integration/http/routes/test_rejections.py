"""Rejected commands as problem responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest

from segments.contracts.documents import ErrorCode
from tests.support.sidecar import Sidecar, assert_problem, running


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with running(tmp_path) as sidecar:
        yield sidecar


@pytest.mark.parametrize("code", get_args(ErrorCode))
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/v1/users/00000000-0000-0000-0000-000000000001/segments", {"add": ["A"]}),
        ("POST", "/v1/segments", {"segment": "A"}),
        ("PATCH", "/v1/segments/A", {}),
        ("DELETE", "/v1/segments/A", None),
    ],
)
async def test_every_rejection_has_its_status(
    sidecar: Sidecar, code: str, method: str, path: str, body: Any
) -> None:
    def decide(command: dict[str, Any]) -> dict[str, Any]:
        error = {"code": code, "detail": "no", "segments": ["A"]}
        return {
            "command_id": command["id"],
            "status": "rejected",
            "error": error,
            "changes": [],
            "position": "0:1",
        }

    sidecar.producer.decide = decide
    # Not every command can have every rejection, although the document lists them together.
    sidecar.client.event_hooks = {"response": []}
    response = await sidecar.client.request(method, path, json=body)
    addressed = path == "/v1/segments/A"
    conflict, missing = code in ("segment_exists", "assigning"), code == "segment_unknown"
    status = 409 if conflict else 404 if missing and addressed else 422
    problem = assert_problem(response, status, code, segments=["A"], position="0:1")
    assert problem["command_id"] == sidecar.producer.sent[-1][1]["id"]


@pytest.mark.parametrize(
    ("method", "path", "body", "preview"),
    [
        ("POST", "/v1/segments/preview", {"auto": {"percent": 10}}, False),
        ("POST", "/v1/segments", {"segment": "A"}, True),
        ("PATCH", "/v1/segments/A", {"description": "x"}, True),
        ("DELETE", "/v1/segments/A", None, True),
    ],
)
async def test_the_result_of_another_command(
    sidecar: Sidecar, method: str, path: str, body: Any, preview: bool
) -> None:
    """Two requests that share an idempotency key never get the other command's result."""

    def decide(command: dict[str, Any]) -> dict[str, Any]:
        made = {"command_id": command["id"], "status": "unchanged", "position": "0:1"}
        return made | ({"preview": {"eligible": 1, "target": 1}} if preview else {})

    sidecar.producer.decide = decide
    headers = {"Idempotency-Key": "the same"}
    response = await sidecar.client.request(method, path, json=body, headers=headers)
    assert_problem(response, 422, "idempotency_key_reused")
