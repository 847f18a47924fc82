"""Shared services of the request handlers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from segments.contracts.partitioning import partition_of
from segments.contracts.positions import Position, format_position
from segments.http.problems import Problem
from segments.http.read.waiters import Waiters
from segments.http.read.watermark import Watermark
from segments.http.routing.headers import POSITION, POSITIONS_MAX, STALENESS
from segments.settings import Settings
from segments.state.history.protocol import HistoryReader
from segments.state.view.view import Marker, View, staleness_ms

if TYPE_CHECKING:
    from segments.http.read.view_consumer import ViewConsumer
    from segments.http.write.producer import CommandProducer


@dataclass
class StreamCount:
    """How many streamed responses and imports are in progress."""

    running: int = 0


@dataclass(frozen=True)
class Services:
    """What the handlers work with. `pool`: threads for reads that are heavy on CPU or disk."""

    settings: Settings
    view: View
    waiters: Waiters
    view_consumer: ViewConsumer
    producer: CommandProducer
    history: HistoryReader
    watermark: Watermark
    pool: ThreadPoolExecutor
    streams: StreamCount = field(default_factory=StreamCount)

    @contextmanager
    def stream_slot(self) -> Iterator[None]:
        """Hold one of the `http.max_streams` slots. Problem 503 `busy` if none is free."""
        streams = self.streams
        if streams.running >= self.settings.http.max_streams:
            raise Problem(
                503,
                "busy",
                "too many reports, lists and imports are in progress",
                headers={"Retry-After": "5"},
            )
        streams.running += 1
        try:
            yield
        finally:
            streams.running -= 1

    def partition_of_user(self, user_id: str) -> int:
        """The partition of a user. Problem 421 if this sidecar does not serve it."""
        partition = partition_of(user_id, self.settings.partitions)
        kept = self.settings.http.partitions
        if kept is not None and partition not in kept:
            raise Problem(
                421,
                "partition_elsewhere",
                f"this sidecar does not serve partition {partition}, to which the user belongs",
            )
        return partition

    def served_partitions(self) -> set[int]:
        """The partitions whose users are in this sidecar's view."""
        kept = self.settings.http.partitions
        return set(range(self.settings.partitions)) if kept is None else set(kept)

    def freshness(
        self, partition: int, progress: Mapping[int, Marker] | None = None
    ) -> dict[str, str]:
        """Position and staleness headers for a response from this partition.

        Call it before reading documents, or pass the view's `progress` taken before: documents are
        then at least as fresh as the headers say. Problem 503 `not_ready` while the view is being
        built or has no progress marker of the partition yet.
        """
        marker = (self.view.progress if progress is None else progress).get(partition)
        if marker is None or not self.view.complete:
            raise not_ready()
        return {
            POSITION: format_position(partition, marker.log_offset),
            STALENESS: str(staleness_ms(marker)),
        }

    def freshness_of(self, partitions: set[int], progress: Mapping[int, Marker]) -> dict[str, str]:
        """Like `freshness` for several partitions: every position, and the highest staleness.

        Without positions if there are more than a request may name.
        """
        parts = [self.freshness(partition, progress) for partition in sorted(partitions)]
        worst = {STALENESS: max((headers[STALENESS] for headers in parts), key=int, default="0")}
        if len(parts) > POSITIONS_MAX:
            return worst
        return worst | {POSITION: ",".join(headers[POSITION] for headers in parts)}

    async def wait_for(self, positions: list[Position], wait_s: float) -> float:
        """Wait until the view has reached every position; returns the rest of the wait in seconds.

        Problem 503 `stale` if it does not within `wait_s`.
        """
        deadline_s = time.monotonic() + wait_s
        for position in positions:
            left_s = max(0.0, deadline_s - time.monotonic())
            if not await self.waiters.wait_for_position(position, left_s):
                raise Problem(
                    503,
                    "stale",
                    f"the view has not reached position {position} within {wait_s:g} s",
                    headers={"Retry-After": "1"},
                )
        return max(0.0, deadline_s - time.monotonic())


SERVICES = web.AppKey("services", Services)


def not_ready() -> Problem:
    """503: the view is still being built, so what it does not contain may exist."""
    return Problem(
        503,
        "not_ready",
        "the view is being built from the topics",
        headers={"Retry-After": "1"},
    )
