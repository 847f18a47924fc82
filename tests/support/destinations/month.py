"""The month of history rows that reports at destinations are made of."""

from __future__ import annotations

MARCH_MS = 1_740_787_200_000


ROWS = 120_000
"""About 9 MB: more than one upload part."""
