"""Processes killed at random moments: nothing is lost, nothing is duplicated."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.crash.crash_run import new_seed, run_kills

PROCESSES = ["router", "users", "shards-0", "history", "http-0"]
KILLS = 16


@pytest.mark.timeout(600)
def test_outputs_equal_the_oracle_after_random_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("CRASH_SEED") or new_seed())
    with capsys.disabled():
        sys.stdout.write(f"\nCRASH_SEED={seed} repeats this schedule\n")
    outcome = run_kills(tmp_path, PROCESSES, seed=seed, kills=KILLS)
    with capsys.disabled():
        sys.stdout.write(f"{outcome.summary()}\n")
    assert outcome.differences == []
    assert outcome.kills.total() >= KILLS
    assert outcome.broker_restarts == 1
    assert outcome.digests > 0
