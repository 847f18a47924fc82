"""One run: kill processes at random, wait until everything is processed, compare the outputs."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from segments.streams import maintenance
from tests.support.crash.cluster import Cluster, start_cluster
from tests.support.crash.command_checks import command_differences
from tests.support.crash.kill_schedule import KillChances, KillSchedule
from tests.support.crash.oracle_checks import oracle_differences, replayed
from tests.support.crash.settle import wait_until_settled
from tests.support.crash.topic_tails import TopicTails
from tests.support.crash.traffic import Traffic
from tests.support.crash.view_checks import view_differences


@dataclass
class Outcome:
    """What a run did and found. `ends`: processes that exited by themselves, and why."""

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
    killing_s: float
    settle_s: float
    total_s: float

    def summary(self) -> str:
        """One line per figure."""
        return "\n".join(f"{name}: {value}" for name, value in vars(self).items())


def new_seed() -> int:
    """A random seed."""
    return random.SystemRandom().randrange(1_000_000)


def run_kills(
    data_dir: Path,
    names: list[str],
    *,
    seed: int,
    kills: int,
    broker_restarts: int = 1,
    commands_per_s: float = 120.0,
    duration_s: float = math.inf,
    chances: KillChances | None = None,
) -> Outcome:
    """Run the processes `names` on a new broker and kill them; see `KillSchedule`."""
    began = time.monotonic()
    with start_cluster(data_dir, names) as cluster:
        tails = TopicTails(cluster.settings)
        traffic = Traffic(cluster.settings, cluster.user_service, seed, commands_per_s)
        cluster.start(*names)
        killing_began = time.monotonic()
        with traffic.sending():
            KillSchedule(
                cluster, seed, kills, broker_restarts, duration_s, chances or KillChances()
            ).run()
        settle_began = time.monotonic()
        wait_until_settled(cluster, traffic, tails)
        settled = time.monotonic()
        wrong, digests = compare_outputs(cluster, tails, traffic)
        oracles = replayed(tails)
        tails.close()
        return Outcome(
            seed=seed,
            kills=cluster.kills,
            wipes=cluster.wipes,
            freezes=cluster.freezes,
            ends=cluster.ends,
            broker_restarts=cluster.broker_restarts,
            sent=traffic.sent,
            log_records=len(tails["segments.shards"].all()),
            router_repeats=sum(oracle.repeats for oracle in oracles.values()),
            results=len(tails["segments.results"].all()),
            history_rows=len(tails["segments.history"].all()),
            digests=digests,
            differences=wrong,
            killing_s=round(settle_began - killing_began, 1),
            settle_s=round(settled - settle_began, 1),
            total_s=round(time.monotonic() - began, 1),
        )


def compare_outputs(cluster: Cluster, tails: TopicTails, traffic: Traffic) -> tuple[list[str], int]:
    """(differences, number of compared digests); stops all processes."""
    wrong: list[str] = []
    for name in cluster.names:
        if name.startswith("http"):
            wrong += view_differences(cluster, name, tails)
    for name in cluster.names:
        cluster.stop(name)
    # Read what the last checkpoints committed.
    tails.update()
    wrong += oracle_differences(tails, cluster.settings)
    wrong += command_differences(tails, traffic)
    digests = 0
    for name in cluster.names:
        if name.startswith("shards"):
            for found in maintenance.digests(cluster.settings_of(name)):
                digests += 1
                if found.stored != found.replayed:
                    wrong.append(
                        f"{name}: the state of {found.partition} differs from a replay of its log"
                    )
    return wrong, digests
