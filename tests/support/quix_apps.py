"""Applications run inside the test's own process, for a look at what the library does."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from segments.contracts.log import CHANGE, DEFINE, HEADER_TYPE
from segments.contracts.partitioning import partition_of
from segments.settings import Settings
from segments.streams import quix, startup_checks
from tests.support.records import send

TIMEOUT_S = 60.0


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """An application takes SIGINT and SIGTERM for itself: give them back."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def run_until(app: Any, done: Callable[[], bool], what: str) -> None:
    """Run an application until `done`, asked at every turn of its loop, is true."""
    deadline = time.monotonic() + TIMEOUT_S
    came = False

    def look() -> None:
        nonlocal came
        came = came or done()
        if came or time.monotonic() > deadline:
            app.stop()

    quix.every_loop(app, look)
    with signals_kept():
        quix.run(app)
    assert came, f"{what} did not come"


def define(settings: Settings, segment: str) -> None:
    """Tell every shard of a segment."""
    value = {
        "segment": segment,
        "generation": 1,
        "version": 1,
        "state": "active",
        "description": None,
        "created_at": 0,
        "auto": None,
        "position": "0:0",
        "command_id": f"create {segment}",
        "actor": None,
    }
    for partition in range(settings.partitions):
        _append(settings, DEFINE, value, partition)


def change(settings: Settings, user_id: str, command_id: str, *add: str) -> None:
    """Put a user into segments."""
    value = {
        "id": command_id,
        "user_id": user_id,
        "add": [[segment, None, None] for segment in add],
        "remove": [],
    }
    _append(settings, CHANGE, value, partition_of(user_id, settings.partitions))


def _append(settings: Settings, kind: str, value: Any, partition: int) -> None:
    send(
        settings,
        "segments.shards",
        [orjson.dumps(value)],
        partition=partition,
        headers=[(HEADER_TYPE, kind.encode())],
    )


def users_of(settings: Settings, partition: int, count: int) -> list[str]:
    """Ids of users whose shard this is."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        user_id = f"00000000-0000-4000-8000-{number:012x}"
        if partition_of(user_id, settings.partitions) == partition:
            found.append(user_id)
    return found


def committed(settings: Settings) -> dict[int, int | None]:
    """Committed offset of each partition of the log."""
    consumer = startup_checks.shards_consumer(settings)
    try:
        return startup_checks.committed_offsets(consumer, settings)
    finally:
        consumer.close()
