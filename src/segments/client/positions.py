"""Highest position of a session's writes in each partition."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from segments.client.errors import SessionError

POSITIONS_MAX = 64
"""Maximum number of positions per request."""


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
        """Positions `partition:offset`, with commas between, that a write was answered with."""
        for part in text.split(","):
            partition, _, offset = part.strip().partition(":")
            with self._lock:
                before = self._highest.get(int(partition), -1)
                self._highest[int(partition)] = max(before, int(offset))

    def minimum(self) -> str | None:
        """What a read has to wait for; None when nothing was written.

        SessionError when it is more than a request may name: begin a new session, or give
        `min_position` by hand.
        """
        with self._lock:
            known = sorted(self._highest.items())
        if len(known) > POSITIONS_MAX:
            raise SessionError(
                f"this session has written to {len(known)} partitions, a read can wait for "
                f"{POSITIONS_MAX}: begin a new session, or give min_position"
            )
        return ",".join(f"{partition}:{offset}" for partition, offset in known) or None
