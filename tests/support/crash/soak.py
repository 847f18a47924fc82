"""Random histories of the state machine, then rounds of kills; run by scripts/soak.

Rounds are repeated until enough processes were killed or the time is up. Each round is a new
deployment, and its seed is the previous one plus 1, so that a failed round can be run again alone.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.support.crash.crash_run import Outcome, new_seed, run_kills
from tests.support.crash.kill_schedule import KillChances
from tests.support.paths import ROOT

_SHOWN = 10


def main() -> int:
    """Exit status 0 if there are no differences."""
    arguments = _arguments()
    names = ["users", "history"]
    names += [f"router-{number}" for number in range(arguments.routers)]
    names += [f"shards-{number}" for number in range(arguments.shards)]
    names += [f"http-{number}" for number in range(arguments.http)]
    console = Console(highlight=False)
    if arguments.examples and _models(arguments.examples, arguments.records) != 0:
        return 1
    deadline = time.monotonic() + arguments.minutes * 60
    outcomes: list[Outcome] = []
    while _killed(outcomes) < arguments.kills and time.monotonic() < deadline:
        seed = arguments.seed + len(outcomes)
        console.print(f"round {len(outcomes) + 1}, seed {seed} …")
        kills = min(arguments.round, arguments.kills - _killed(outcomes))
        try:
            outcome = _round(arguments, names, seed, kills, deadline - time.monotonic())
        except AssertionError as error:
            # The outputs never became complete: report the earlier rounds and fail.
            console.print(f"  gave up: {error}", style="red", markup=False)
            console.print(_table(outcomes))
            return 1
        outcomes.append(outcome)
        for difference in outcome.differences[:_SHOWN]:
            console.print(difference[:1000], style="red", markup=False)
        for end in outcome.ends:
            console.print(f"  {end[:300]}", markup=False)
        console.print(_line(outcome))
    console.print(_table(outcomes))
    return 1 if any(outcome.differences for outcome in outcomes) else 0


def _models(examples: int, records: int) -> int:
    """Exit status of the state machine's tests, run with more and other random histories."""
    argv = [sys.executable, "-m", "pytest", "--timeout=86400", "tests/unit/state/machine"]
    lengths = {"HYPOTHESIS_EXAMPLES": str(examples), "VOLUME_RECORDS": str(records)}
    return subprocess.run(argv, check=False, cwd=ROOT, env=os.environ | lengths).returncode


def _round(
    arguments: argparse.Namespace, names: list[str], seed: int, kills: int, duration_s: float
) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="segments-soak-") as folder:
        return run_kills(
            Path(folder),
            names,
            seed=seed,
            kills=kills,
            broker_restarts=arguments.broker_restarts,
            commands_per_s=arguments.rate,
            duration_s=duration_s,
            chances=KillChances(freeze=arguments.freeze),
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Kills processes repeatedly, then compares all outputs with an oracle.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=5_000,
        help="random histories of the state machine before the kills; 0 = none",
    )
    parser.add_argument(
        "--records", type=int, default=300_000, help="length of the state machine's longest log"
    )
    parser.add_argument("--kills", type=int, default=300, help="kills in total")
    parser.add_argument("--minutes", type=float, default=math.inf, help="maximum duration")
    parser.add_argument("--seed", type=int, default=new_seed(), help="seed of the first round")
    parser.add_argument("--round", type=int, default=60, help="kills per round")
    parser.add_argument(
        "--broker-restarts", type=int, default=1, help="restarts of the broker per round"
    )
    parser.add_argument("--routers", type=int, default=2, help="router processes")
    parser.add_argument("--shards", type=int, default=2, help="shards processes")
    parser.add_argument("--http", type=int, default=1, help="http processes")
    parser.add_argument("--rate", type=float, default=120.0, help="commands and events per second")
    parser.add_argument(
        "--freeze",
        type=float,
        default=0.05,
        help="chance before a kill to freeze a router or shards past its session",
    )
    return parser.parse_args()


def _killed(outcomes: list[Outcome]) -> int:
    return sum(outcome.kills.total() for outcome in outcomes)


def _line(outcome: Outcome) -> str:
    return (
        f"  {outcome.kills.total()} kills, {outcome.sent['commands']} commands, "
        f"{outcome.history_rows} history rows, {outcome.digests} digests, "
        f"{len(outcome.differences)} differences; {outcome.killing_s:.0f} s of kills, settled in "
        f"{outcome.settle_s:.0f} s"
    )


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("what", "count", title="soak")
    counted = {"killed": Counter[str](), "wiped": Counter[str](), "frozen": Counter[str]()}
    for outcome in outcomes:
        counted["killed"] += outcome.kills
        counted["wiped"] += outcome.wipes
        counted["frozen"] += outcome.freezes
    for what, counts in counted.items():
        for name, count in sorted(counts.items()):
            table.add_row(f"{what}: {name}", str(count))
        table.add_row(f"{what} in total", str(counts.total()), end_section=True)
    sums = {
        "broker restarts": sum(outcome.broker_restarts for outcome in outcomes),
        "processes that exited by themselves": sum(len(outcome.ends) for outcome in outcomes),
        "commands sent": sum(outcome.sent["commands"] for outcome in outcomes),
        "repeated commands": sum(outcome.sent["repeated"] for outcome in outcomes),
        "user events sent": sum(outcome.sent["events"] for outcome in outcomes),
        "records of the shard log": sum(outcome.log_records for outcome in outcomes),
        "duplicates of the router dropped": sum(outcome.router_repeats for outcome in outcomes),
        "results": sum(outcome.results for outcome in outcomes),
        "history rows": sum(outcome.history_rows for outcome in outcomes),
        "digests compare": sum(outcome.digests for outcome in outcomes),
        "differences": sum(len(outcome.differences) for outcome in outcomes),
        "seconds": round(sum(outcome.total_s for outcome in outcomes)),
    }
    for what, count in sums.items():
        table.add_row(what, f"{count:,}")
    return table


if __name__ == "__main__":
    sys.exit(main())
