"""What the handlers work with, made once by `app.build`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from segments.contracts.partitioning import partition_of
from segments.contracts.positions import Position
from segments.http.problems import Problem
from segments.http.read.waiters import Waiting
from segments.http.read.watermark import Completeness
from segments.http.routing.headers import POSITION, POSITIONS_MAX, STALENESS
from segments.settings import Settings
from segments.state.history.protocol import HistoryReader
from segments.state.view.view import Marker, View, staleness_ms

if TYPE_CHECKING:
    from segments.http.read.view_consumer import Feed
    from segments.http.write.producer import CommandWriter


@dataclass
class Streams:
    """How many long answers are being sent, and imports taken, now."""

    running: int = 0


@dataclass(frozen=True)
class Services:
    """`pool`: bounded threads for reads that are heavy on CPU or disk."""

    settings: Settings
    view: View
    waiting: Waiting
    feed: Feed
    writer: CommandWriter
    history: HistoryReader
    completeness: Completeness
    pool: ThreadPoolExecutor
    streams: Streams = field(default_factory=Streams)

    @contextmanager
    def stream_slot(self) -> Iterator[None]:
        """Take part in the streams that run at a time. Problem 503 when there are enough."""
        streams = self.streams
        if streams.running >= self.settings.http.max_streams:
            raise Problem(
                503,
                "busy",
                "too many reports, lists and imports are on their way",
                headers={"Retry-After": "5"},
            )
        streams.running += 1
        try:
            yield
        finally:
            streams.running -= 1

    def partition_of_user(self, user_id: str) -> int:
        """The shard of a user. Problem 421 when this sidecar does not keep it."""
        partition = partition_of(user_id, self.settings.partitions)
        kept = self.settings.http.partitions
        if kept is not None and partition not in kept:
            raise Problem(
                421,
                "partition_elsewhere",
                f"this sidecar does not keep partition {partition}, in which the user is",
            )
        return partition

    def kept_partitions(self) -> set[int]:
        """The partitions of which this sidecar has the users."""
        kept = self.settings.http.partitions
        return set(range(self.settings.partitions)) if kept is None else set(kept)

    def freshness(
        self, partition: int, progress: Mapping[int, Marker] | None = None
    ) -> dict[str, str]:
        """The headers that say how fresh an answer from this partition is.

        Ask before reading the documents, or give the view's `progress` taken before: they are then
        at least as fresh as the headers say. Problem 503 while the view is being filled or has not
        heard of the partition yet.
        """
        marker = (self.view.progress if progress is None else progress).get(partition)
        if marker is None or not self.view.complete:
            raise not_ready()
        return {
            POSITION: f"{partition}:{marker.log_offset}",
            STALENESS: str(staleness_ms(marker)),
        }

    def freshness_of(self, partitions: set[int], progress: Mapping[int, Marker]) -> dict[str, str]:
        """As `freshness`, for an answer from several partitions: all positions, the worst age.

        No positions where there are more than a request may name.
        """
        each = [self.freshness(partition, progress) for partition in sorted(partitions)]
        worst = {STALENESS: max((headers[STALENESS] for headers in each), key=int, default="0")}
        if len(each) > POSITIONS_MAX:
            return worst
        return worst | {POSITION: ",".join(headers[POSITION] for headers in each)}

    async def wait_for(self, positions: list[Position], wait_s: float) -> float:
        """What is left of the wait when the view has reached every position.

        Problem 503 `stale` when it does not within the wait.
        """
        deadline_s = time.monotonic() + wait_s
        for position in positions:
            left_s = max(0.0, deadline_s - time.monotonic())
            if not await self.waiting.fresh(position, left_s):
                raise Problem(
                    503,
                    "stale",
                    f"the view has not reached position {position} within {wait_s:g} s",
                    headers={"Retry-After": "1"},
                )
        return max(0.0, deadline_s - time.monotonic())


SERVICES = web.AppKey("services", Services)


def not_ready() -> Problem:
    """The view is still being filled: what is not in it may exist."""
    return Problem(
        503,
        "not_ready",
        "the view is being filled from the topics",
        headers={"Retry-After": "1"},
    )
