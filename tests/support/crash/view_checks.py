"""Compares the responses of an http process with the topics that it reads."""

from __future__ import annotations

import time
from typing import Any

import httpx

from segments.contracts.times import to_rfc3339
from tests.support import deployments
from tests.support.crash.cluster import Cluster
from tests.support.crash.oracle_checks import compare
from tests.support.crash.settle import documents, markers
from tests.support.crash.topic_tails import TopicTails

READY_TIMEOUT_S = 90.0
TIMEOUT_S = 60.0
_QUERY_USERS = 50
_PAGE_SEGMENTS = 5


def view_differences(cluster: Cluster, name: str, tails: TopicTails) -> list[str]:
    """Every difference between the responses of `name` and the newest documents of the topics."""
    deployments.wait_until(lambda: cluster.ready(name), READY_TIMEOUT_S, f"{name} ready")
    positions = ",".join(
        f"{partition}:{marker['log_offset']}" for partition, marker in markers(tails).items()
    )
    headers = {"Segments-Min-Position": positions, "Prefer": "wait=30"}
    with httpx.Client(
        base_url=cluster.url(name), headers=headers, timeout=TIMEOUT_S, trust_env=False
    ) as client:
        return _users(client, name, tails) + _segments(client, name, tails)


def _users(client: httpx.Client, name: str, tails: TopicTails) -> list[str]:
    published = documents(tails)
    now_ms = time.time_ns() // 1_000_000
    found: dict[str, Any] = {}
    users = sorted(published)
    for start in range(0, len(users), _QUERY_USERS):
        body = {"user_ids": users[start : start + _QUERY_USERS]}
        response = client.post("/v1/memberships/query", json=body).raise_for_status()
        found |= {item["user_id"]: item for item in response.json()["items"]}
    expected = {user_id: _item(user_id, published[user_id], now_ms) for user_id in users}
    return compare(f"{name} on", found, expected)


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


def _segments(client: httpx.Client, name: str, tails: TopicTails) -> list[str]:
    found: dict[str, int] = {}
    cursor: str | None = None
    while True:
        page: dict[str, str | int] = {"limit": _PAGE_SEGMENTS}
        if cursor is not None:
            page["cursor"] = cursor
        page_body = client.get("/v1/segments", params=page).raise_for_status().json()
        found |= {item["segment"]: item["size"] for item in page_body["items"]}
        cursor = page_body["next"]
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
    return compare(f"{name} on segment", found, sizes)
