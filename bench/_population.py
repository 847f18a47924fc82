"""Runs a deployment with a large population and assigns shares of it to segments."""

from __future__ import annotations

import heapq
import uuid
from typing import Any

import httpx
import orjson
import xxhash

from bench import _common as common
from bench import _log as log
from bench import _pipeline as pipeline
from bench import _view as view
from segments.settings import Settings

_FILL_TIMEOUT_S = 1_800.0
_ASSIGN_TIMEOUT_S = 600.0


def start(settings: Settings, users: list[str], client: httpx.Client) -> dict[str, common.Process]:
    """Start every application and wait until all users are in the view."""
    log.log_users(settings, users)
    processes = {"shards": log.start_shards(settings, _FILL_TIMEOUT_S)}
    for name in pipeline.APPLICATIONS:
        if name not in processes:
            processes[name] = common.start(settings, name)
    view.wait_for(f"{pipeline.base_url(settings)}/readyz")
    for name in view.SEGMENTS:
        client.post("/v1/segments", json={"segment": name}).raise_for_status()
    return processes


def definition(client: httpx.Client, segment: str) -> dict[str, Any]:
    """A segment's definition with its size, as GET returns it."""
    answer = client.get(f"/v1/segments/{segment}")
    if answer.status_code != httpx.codes.OK:
        raise common.BenchError(f"{answer.status_code}: {answer.text}")
    found: dict[str, Any] = answer.json()
    return found


def create_segment(client: httpx.Client, segment: str, auto: dict[str, Any]) -> dict[str, Any]:
    """Create a segment with a rule; its definition once it is active and fully assigned."""
    body = {"segment": segment, "auto": auto}
    client.post("/v1/segments", json=body).raise_for_status()

    def done() -> dict[str, Any] | None:
        found = definition(client, segment)
        assigned = found["size"] == found["auto"]["assigned"]
        return found if found["state"] == "active" and assigned else None

    return common.wait_until(done, _ASSIGN_TIMEOUT_S, f"all members of {segment}") or {}


def share_size(count: int, percent: int) -> int:
    """`percent` of `count` users, rounded half up."""
    return (count * percent + 50) // 100


def expected_members(segment: str, users: list[str], count: int) -> set[str]:
    """The `count` users that a rule selects in the first generation, computed independently."""
    seed = xxhash.xxh3_64_intdigest(f"{segment}/1".encode())

    def rank(user_id: str) -> tuple[int, bytes]:
        raw = uuid.UUID(user_id).bytes
        return xxhash.xxh3_64_intdigest(raw, seed), raw

    return set(heapq.nsmallest(count, users, key=rank))


def members(client: httpx.Client, segment: str) -> set[str]:
    """All members as the service streams them; BenchError if one is repeated."""
    found: list[str] = []
    headers = {"Accept": "application/x-ndjson"}
    with client.stream("GET", f"/v1/segments/{segment}/users", headers=headers) as answer:
        for line in answer.iter_lines():
            item = orjson.loads(line)
            if "user_id" in item:
                found.append(item["user_id"])
            elif item["count"] != len(found):
                raise common.BenchError(f"received {len(found)} members of {item['count']}")
    if len(set(found)) != len(found):
        raise common.BenchError(f"{len(found) - len(set(found))} members are repeated")
    return set(found)
