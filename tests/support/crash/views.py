"""What an http process answers about every user and segment, against the topics it reads."""

from __future__ import annotations

import time
from typing import Any

import httpx

from segments.contracts.times import to_rfc3339
from tests.support import deployments
from tests.support.crash.checks import compared
from tests.support.crash.harness import Plant
from tests.support.crash.settled import documents, markers
from tests.support.crash.tails import Tails

READY_TIMEOUT_S = 90.0
TIMEOUT_S = 60.0
_USERS_AT_ONCE = 50
_SEGMENTS_AT_ONCE = 5


def view_differences(plant: Plant, name: str, tails: Tails) -> list[str]:
    """Every difference between what `name` answers and the newest documents of the topics."""
    deployments.wait_until(lambda: plant.ready(name), READY_TIMEOUT_S, f"{name} ready")
    positions = ",".join(
        f"{partition}:{marker['log_offset']}" for partition, marker in markers(tails).items()
    )
    headers = {"Segments-Min-Position": positions, "Prefer": "wait=30"}
    with httpx.Client(
        base_url=plant.url(name), headers=headers, timeout=TIMEOUT_S, trust_env=False
    ) as client:
        return _users(client, name, tails) + _segments(client, name, tails)


def _users(client: httpx.Client, name: str, tails: Tails) -> list[str]:
    shown = documents(tails)
    now_ms = time.time_ns() // 1_000_000
    found: dict[str, Any] = {}
    users = sorted(shown)
    for start in range(0, len(users), _USERS_AT_ONCE):
        body = {"user_ids": users[start : start + _USERS_AT_ONCE]}
        answer = client.post("/v1/memberships/query", json=body).raise_for_status()
        found |= {item["user_id"]: item for item in answer.json()["items"]}
    expected = {user_id: _item(user_id, shown[user_id], now_ms) for user_id in users}
    return compared(f"{name} on", found, expected)


def _item(user_id: str, document: dict[str, Any], now_ms: int) -> dict[str, Any]:
    deleted = document["account"] == "deleted"
    segments = [
        {
            "segment": segment,
            "since": to_rfc3339(held["since"]),
            "expires_at": held["expires_at"] and to_rfc3339(held["expires_at"]),
            "origin": held["origin"],
        }
        for segment, held in sorted(document["segments"].items())
        if held["expires_at"] is None or held["expires_at"] > now_ms
    ]
    return {
        "user_id": user_id,
        "account": document["account"],
        "segments": [] if deleted else segments,
        "error": "user_deleted" if deleted else None,
    }


def _segments(client: httpx.Client, name: str, tails: Tails) -> list[str]:
    found: dict[str, int] = {}
    cursor: str | None = None
    while True:
        page: dict[str, str | int] = {"limit": _SEGMENTS_AT_ONCE}
        if cursor is not None:
            page["cursor"] = cursor
        answer = client.get("/v1/segments", params=page).raise_for_status().json()
        found |= {item["segment"]: item["size"] for item in answer["items"]}
        cursor = answer["next"]
        if cursor is None:
            break
    sizes = {
        entry.json["segment"]: 0
        for entry in tails["segments.definitions"].newest().values()
        if entry.json["state"] != "deleted"
    }
    for document in documents(tails).values():
        for segment in document["segments"]:
            sizes[segment] += 1
    return compared(f"{name} on segment", found, sizes)
