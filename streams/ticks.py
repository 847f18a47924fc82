"""Scheduling of ticks in a shard's log; no I/O and no clock: callers pass the time."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")
# If our clock is ahead of the broker's, a tick arrives before the due time: do not spin.
_RETRY_MS = 20
# A slice whose tick has not been applied by then has moved to another process with its partition.
_LOST_MS = 1_000


class TickSchedule:
    """Heartbeats and due work of one partition, all instants in milliseconds."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._appended_at = 0
        self._applied = True

    def applied(self) -> None:
        """Note that a tick was read from the log and applied."""
        self._applied = True

    def should_append(self, now_ms: int, due_ms: int | None) -> bool:
        """Whether to append a tick now; True also records it as appended.

        At once when something is due, with at most one such tick in flight, and at least once per
        interval.
        """
        since_ms = now_ms - self._appended_at
        heartbeat = since_ms >= self._interval_ms or since_ms < 0
        due = due_ms is not None and due_ms <= now_ms and self._applied
        if due and due_ms != 0 and since_ms < _RETRY_MS:
            due = False
        if heartbeat or due:
            self._appended_at = now_ms
            self._applied = False
            return True
        return False


class WorkPace:
    """Paces the slices of jobs: one at a time per process, with a pause after each.

    A job over many users also loads the consumers of its output (view, history) and the broker.
    Without pauses their queues grow as long as the job runs, and every command waits in them. The
    pause is proportional to the duration of the slice, so it is longer on a busy machine.
    """

    def __init__(self, rest_ratio: float) -> None:
        self._rest_ratio = rest_ratio
        self._running: int | None = None
        self._last = -1
        self._began_ms = 0
        self._free_at_ms = 0

    def in_turn(self, shards: list[tuple[int, T]]) -> list[tuple[int, T]]:
        """Rotate (partition, shard) pairs so that the partition of the last slice comes last.

        Otherwise the first shards could take every slice for as long as they have work.
        """
        following = [pair for pair in shards if pair[0] > self._last]
        return following + [pair for pair in shards if pair[0] <= self._last]

    def may_start(self, now_ms: int) -> bool:
        """Whether a slice may start now."""
        if self._running is not None and 0 <= now_ms - self._began_ms < _LOST_MS:
            return False
        return now_ms >= self._free_at_ms or now_ms < self._began_ms

    def started(self, partition: int, now_ms: int) -> None:
        """Note that the tick of a slice was appended."""
        self._running = self._last = partition
        self._began_ms = now_ms

    def finished(self, partition: int, now_ms: int) -> None:
        """Note that a tick of this partition was applied."""
        if partition == self._running:
            self._running = None
            took_ms = max(0, now_ms - self._began_ms)
            self._free_at_ms = now_ms + round(took_ms * self._rest_ratio)
