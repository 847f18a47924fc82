"""Hypothesis settings of the state machine's model tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONGER = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))


SETTINGS = settings(
    max_examples=LONGER or 400,
    stateful_step_count=50,
    derandomize=not LONGER,
    database=None,
    report_multiple_bugs=False,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
