"""Commands by outcome, as a metric: counted from the results on their way out."""

from __future__ import annotations

from collections import Counter

from segments.telemetry import metrics

_STATUS = b'"status":"'
_CODE = b'"code":"'
_REJECTED = b"rejected"


class Outcomes:
    """Counts results as bytes, and tells the metric now and then: both are cheap."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()

    def count(self, result: bytes) -> None:
        """A record of segments.results, as it is produced."""
        # Neither word can stand in a string of the result: its quotes would be escaped there.
        outcome = _word(result, _STATUS)
        self._counts[_word(result, _CODE) if outcome == _REJECTED else outcome] += 1

    def report(self) -> None:
        """Add what was counted since the last time."""
        for outcome, count in self._counts.items():
            metrics.COMMANDS.labels(outcome.decode()).inc(count)
        self._counts.clear()


def _word(result: bytes, before: bytes) -> bytes:
    start = result.index(before) + len(before)
    return result[start : result.index(b'"', start)]
