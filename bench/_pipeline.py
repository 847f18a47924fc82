"""Starts all applications of a deployment and sends commands to them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import httpx
import orjson
from confluent_kafka import Producer

from bench import _common as common
from bench import _view as view
from segments.settings import Settings

APPLICATIONS = ("router", "shards", "history", "http")
_VISIBLE_TIMEOUT_S = 60.0


def base_url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.http.port}"


def start(settings: Settings, client: httpx.Client) -> dict[str, common.Process]:
    """Start every application, wait until they are ready, and create the segments."""
    processes = {name: common.start(settings, name) for name in APPLICATIONS}
    view.wait_for(f"{base_url(settings)}/readyz")
    for name in view.SEGMENTS:
        client.post("/v1/segments", json={"segment": name}).raise_for_status()
    return processes


def changes(users: list[str], first: int, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(user id, command): 70 % add a segment, the others remove one."""
    chooser = random.Random(seed)
    for number in range(first, first + count):
        segment = [chooser.choice(view.SEGMENTS)]
        added = chooser.random() < 0.7
        yield change(
            chooser.choice(users),
            f"command-{number}",
            segment if added else [],
            [] if added else segment,
        )


def change(user_id: str, command_id: str, add: list[str], remove: list[str]) -> tuple[str, bytes]:
    """(user id, command)"""
    command = {
        "type": "change_memberships",
        "id": command_id,
        "user_id": user_id,
        "add": add,
        "remove": remove,
    }
    return user_id, orjson.dumps(command)


def send(settings: Settings, producer: Producer, command: tuple[str, bytes]) -> None:
    """Produce a command keyed by its user, which keeps the order of the user's commands."""
    key, value = command
    common.produce(producer, settings.topic("segments.commands"), value, key)


def wait_until_visible(client: httpx.Client, user_id: str, positions: dict[int, int]) -> None:
    """Wait until the view has reached these offsets of the log ({partition: offset})."""
    minimum = ",".join(f"{partition}:{offset}" for partition, offset in sorted(positions.items()))
    headers = {"Segments-Min-Position": minimum, "Prefer": f"wait={_VISIBLE_TIMEOUT_S / 2:.0f}"}

    def visible() -> bool:
        answer = client.get(f"/v1/users/{user_id}/segments", headers=headers)
        if answer.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            raise common.BenchError(f"{answer.status_code}: {answer.text[:300]}")
        return answer.status_code == httpx.codes.OK

    common.wait_until(visible, _VISIBLE_TIMEOUT_S, f"the view at {minimum}")
