"""When to append ticks to a shard's log: no Kafka, no clock; callers pass the time."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")
# A tick that was appended early by a clock ahead of the broker's is not repeated in a tight loop.
_RETRY_MS = 20
# A slice that has not come back by then went to another process with its partition.
_LOST_MS = 1_000


class TickSchedule:
    """Heartbeats and due work of one partition, all instants in milliseconds."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._appended_at = 0
        self._applied = True

    def applied(self) -> None:
        """A tick came back through the log."""
        self._applied = True

    def should_append(self, now_ms: int, due_ms: int | None) -> bool:
        """Whether a tick should be appended now; if so it counts as appended.

        At once when something is due, but one at a time; and once an interval in any case.
        """
        since = now_ms - self._appended_at
        heartbeat = since >= self._interval_ms or since < 0
        due = due_ms is not None and due_ms <= now_ms and self._applied
        if due and due_ms != 0 and since < _RETRY_MS:
            due = False
        if heartbeat or due:
            self._appended_at = now_ms
            self._applied = False
            return True
        return False


class WorkPace:
    """Paces the slices of jobs: one at a time per process, with a rest after each.

    A job of many users keeps what follows the shards (view, history, broker) busy as well. Without
    a rest their queues grow for as long as the job lasts, and every command waits in them. The rest
    follows what a slice took here, so it is long on a machine that is busy already.
    """

    def __init__(self, rest_ratio: float) -> None:
        self._rest_ratio = rest_ratio
        self._running: int | None = None
        self._last = -1
        self._began_ms = 0
        self._free_at_ms = 0

    def in_turn(self, shards: list[tuple[int, T]]) -> list[tuple[int, T]]:
        """Shards by partition, in their order: who began a slice last comes last.

        Else the same ones could have every turn for as long as they have work.
        """
        later = [each for each in shards if each[0] > self._last]
        return later + [each for each in shards if each[0] <= self._last]

    def may_start(self, now_ms: int) -> bool:
        """Whether a partition may begin a slice now."""
        if self._running is not None and 0 <= now_ms - self._began_ms < _LOST_MS:
            return False
        return now_ms >= self._free_at_ms or now_ms < self._began_ms

    def started(self, partition: int, now_ms: int) -> None:
        """The tick of a slice was appended."""
        self._running = self._last = partition
        self._began_ms = now_ms

    def finished(self, partition: int, now_ms: int) -> None:
        """A tick of this partition was applied."""
        if partition == self._running:
            self._running = None
            took_ms = max(0, now_ms - self._began_ms)
            self._free_at_ms = now_ms + round(took_ms * self._rest_ratio)
