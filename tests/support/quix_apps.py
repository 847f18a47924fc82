"""Runs Quix applications in the test process, to observe the library's behaviour."""

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
    """Restore the handlers of SIGINT and SIGTERM, which an application replaces."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def run_until(app: Any, done: Callable[[], bool], what: str) -> None:
    """Run an application until `done`, checked in every iteration of its loop, is true."""
    deadline = time.monotonic() + TIMEOUT_S
    finished = False

    def check() -> None:
        nonlocal finished
        finished = finished or done()
        if finished or time.monotonic() > deadline:
            app.stop()

    quix.every_loop(app, check)
    with signals_kept():
        quix.run(app)
    assert finished, f"{what} did not happen within {TIMEOUT_S:.0f} s"


def define(settings: Settings, segment: str) -> None:
    """Append the definition of a segment to the log of every shard."""
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
    """Append a command that adds a user to segments."""
    value = {
        "id": command_id,
        "user_id": user_id,
        "add": [[segment, None, None] for segment in add],
        "remove": [],
    }
    _append(settings, CHANGE, value, partition_of(user_id, settings.partitions))


def _append(settings: Settings, record_type: str, value: Any, partition: int) -> None:
    send(
        settings,
        "segments.shards",
        [orjson.dumps(value)],
        partition=partition,
        headers=[(HEADER_TYPE, record_type.encode())],
    )


def users_of(settings: Settings, partition: int, count: int) -> list[str]:
    """Ids of `count` users of a partition."""
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
