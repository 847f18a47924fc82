"""Timer queue of users by due time (binary heap, lazy deletion)."""

from __future__ import annotations

import heapq


class Timers:
    """At most one due instant (ms) per ordinal; memory grows with the ordinals, not the changes."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._due_ms: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._due_ms)

    def set(self, ordinal: int, due_ms: int | None) -> None:
        """Replace the due instant of an ordinal; None removes it."""
        if due_ms is None:
            self._due_ms.pop(ordinal, None)
            return
        if self._due_ms.get(ordinal) == due_ms:
            return
        self._due_ms[ordinal] = due_ms
        heapq.heappush(self._heap, (due_ms, ordinal))
        if len(self._heap) > 2 * len(self._due_ms) + 1024:
            self._heap = [(due, number) for number, due in self._due_ms.items()]
            heapq.heapify(self._heap)

    def next_due_ms(self) -> int | None:
        """The earliest due instant, or None."""
        heap = self._heap
        while heap and self._due_ms.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def first_due(self, now_ms: int) -> int | None:
        """The ordinal with the earliest instant up to `now_ms`, ties by ordinal; it stays set."""
        due_ms = self.next_due_ms()
        return None if due_ms is None or due_ms > now_ms else self._heap[0][1]
