"""When to append a tick to a shard's log: pure of Kafka, told the time by its caller."""

from __future__ import annotations

# A tick that was appended early by a clock ahead of the broker's is not repeated in a tight loop.
_RETRY_MS = 20


class TickSchedule:
    """Heartbeats and due work of one partition, all instants in milliseconds."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._appended_at = 0
        self._applied = True

    def applied(self) -> None:
        """A tick came back through the log."""
        self._applied = True

    def wanted(self, now_ms: int, due_ms: int | None) -> bool:
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
