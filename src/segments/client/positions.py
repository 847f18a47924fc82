"""Highest position of a session's writes in each partition."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from segments.client.errors import SessionError

SESSION_PARTITIONS_MAX = 64
"""Maximum number of partitions a session can write to: a read names a position of each."""


class Positions:
    """Positions of writes; a read that waits for `minimum` sees them all. Thread-safe."""

    def __init__(self, known: Mapping[int, int] | None = None) -> None:
        self._lock = threading.Lock()
        self._highest: dict[int, int] = dict(known or {})

    def copy(self) -> Positions:
        """An independent copy."""
        with self._lock:
            return Positions(self._highest)

    def note(self, text: str) -> None:
        """Record the positions of a write: `partition:offset`, comma-separated."""
        for part in text.split(","):
            partition, _, offset = part.strip().partition(":")
            with self._lock:
                before = self._highest.get(int(partition), -1)
                self._highest[int(partition)] = max(before, int(offset))

    def minimum(self) -> str | None:
        """Positions a read has to wait for, comma-separated; None if nothing was written.

        SessionError if there are more than a request may have.
        """
        with self._lock:
            known = sorted(self._highest.items())
        if len(known) > SESSION_PARTITIONS_MAX:
            raise SessionError(
                f"the session has written to {len(known)} partitions, but a read can wait for at "
                f"most {SESSION_PARTITIONS_MAX}: start a new session, or pass min_position"
            )
        return ",".join(f"{partition}:{offset}" for partition, offset in known) or None
