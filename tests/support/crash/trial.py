"""One trial: kill at random for a while, let everything settle, compare all that came out."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from segments.streams import maintenance
from tests.support.crash.checks import oracle_differences, replayed
from tests.support.crash.harness import Plant, plant
from tests.support.crash.outside import outside_differences
from tests.support.crash.settled import wait_until_settled
from tests.support.crash.storm import Chances, Storm
from tests.support.crash.tails import Tails
from tests.support.crash.traffic import Traffic
from tests.support.crash.views import view_differences


@dataclass
class Outcome:
    """What a trial did and found. `ends`: processes that ended by themselves, and why."""

    seed: int
    kills: Counter[str]
    wipes: Counter[str]
    freezes: Counter[str]
    ends: list[str]
    broker_restarts: int
    sent: Counter[str]
    log_records: int
    router_repeats: int
    results: int
    history_rows: int
    digests: int
    differences: list[str]
    storm_s: float
    settle_s: float
    total_s: float

    def in_words(self) -> str:
        """A line for each figure."""
        return "\n".join(f"{name}: {value}" for name, value in vars(self).items())


def new_seed() -> int:
    """A seed that nobody has chosen."""
    return random.SystemRandom().randrange(1_000_000)


def trial(
    data_dir: Path,
    names: list[str],
    *,
    seed: int,
    kills: int,
    broker_restarts: int = 1,
    commands_per_s: float = 120.0,
    duration_s: float = math.inf,
    chances: Chances | None = None,
) -> Outcome:
    """Run the processes `names` on a broker of their own and kill them; see `Storm`."""
    began = time.monotonic()
    with plant(data_dir, names) as it:
        tails = Tails(it.settings)
        traffic = Traffic(it.settings, it.user_service, seed, commands_per_s)
        it.start(*names)
        storm_began = time.monotonic()
        with traffic.flowing():
            Storm(it, seed, kills, broker_restarts, duration_s, chances or Chances()).run()
        settle_began = time.monotonic()
        wait_until_settled(it, traffic, tails)
        settled = time.monotonic()
        wrong, digests = judge(it, tails, traffic)
        oracles = replayed(tails)
        tails.close()
        return Outcome(
            seed=seed,
            kills=it.kills,
            wipes=it.wipes,
            freezes=it.freezes,
            ends=it.ends,
            broker_restarts=it.broker_restarts,
            sent=traffic.sent,
            log_records=len(tails["segments.shards"].all()),
            router_repeats=sum(oracle.repeats for oracle in oracles.values()),
            results=len(tails["segments.results"].all()),
            history_rows=len(tails["segments.history"].all()),
            digests=digests,
            differences=wrong,
            storm_s=round(settle_began - storm_began, 1),
            settle_s=round(settled - settle_began, 1),
            total_s=round(time.monotonic() - began, 1),
        )


def judge(it: Plant, tails: Tails, traffic: Traffic) -> tuple[list[str], int]:
    """Every difference, and how many digests were compared; stops all processes on the way."""
    wrong: list[str] = []
    for name in it.names:
        if name.startswith("http"):
            wrong += view_differences(it, name, tails)
    for name in it.names:
        it.stop(name)
    # What the last checkpoints brought.
    tails.update()
    wrong += oracle_differences(tails, it.settings)
    wrong += outside_differences(tails, traffic)
    digests = 0
    for name in it.names:
        if name.startswith("shards"):
            for found in maintenance.digests(it.settings_of(name)):
                digests += 1
                if found.stored != found.replayed:
                    wrong.append(f"{name}: the state of {found.partition} is not what its log says")
    return wrong, digests
