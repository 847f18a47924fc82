"""A deployment that runs with a large population, and shares of it given to segments."""

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
    """Every application by name, ready and with all users in the view."""
    log.log_users(settings, users)
    processes = {"shards": log.start_shards(settings, _FILL_TIMEOUT_S)}
    for name in pipeline.APPLICATIONS:
        if name not in processes:
            processes[name] = common.start(settings, name)
    view.wait_for(f"{pipeline.base_url(settings)}/readyz")
    for name in view.SEGMENTS:
        client.post("/v1/segments", json={"segment": name}).raise_for_status()
    return processes


def show(client: httpx.Client, segment: str) -> dict[str, Any]:
    """A definition with its size."""
    answer = client.get(f"/v1/segments/{segment}")
    if answer.status_code != httpx.codes.OK:
        raise common.BenchError(f"{answer.status_code}: {answer.text}")
    shown: dict[str, Any] = answer.json()
    return shown


def give(client: httpx.Client, segment: str, auto: dict[str, Any]) -> dict[str, Any]:
    """Make a segment with a rule; its definition, once it is active and all have it."""
    body = {"segment": segment, "auto": auto}
    client.post("/v1/segments", json=body).raise_for_status()

    def done() -> dict[str, Any] | None:
        shown = show(client, segment)
        all_have_it = shown["size"] == shown["auto"]["assigned"]
        return shown if shown["state"] == "active" and all_have_it else None

    return common.wait_until(done, _ASSIGN_TIMEOUT_S, f"all of {segment}") or {}


def share(count: int, percent: int) -> int:
    """So many percent of so many users, rounded half up."""
    return (count * percent + 50) // 100


def chosen(segment: str, users: list[str], count: int) -> set[str]:
    """Who must have the first generation of a segment: plain code, by the definition."""
    seed = xxhash.xxh3_64_intdigest(f"{segment}/1".encode())

    def place(user_id: str) -> tuple[int, bytes]:
        raw = uuid.UUID(user_id).bytes
        return xxhash.xxh3_64_intdigest(raw, seed), raw

    return set(heapq.nsmallest(count, users, key=place))


def members(client: httpx.Client, segment: str) -> set[str]:
    """All members as the service streams them; BenchError when somebody comes twice."""
    found: list[str] = []
    headers = {"Accept": "application/x-ndjson"}
    with client.stream("GET", f"/v1/segments/{segment}/users", headers=headers) as answer:
        for line in answer.iter_lines():
            item = orjson.loads(line)
            if "user_id" in item:
                found.append(item["user_id"])
            elif item["count"] != len(found):
                raise common.BenchError(f"{len(found)} members came, {item['count']} were promised")
    if len(set(found)) != len(found):
        raise common.BenchError(f"{len(found) - len(set(found))} members came twice")
    return set(found)
