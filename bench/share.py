"""Assignment of 10 %, then 25 % of 1,000,000 users to a segment under load.

    python -m bench.share

All applications run as in a deployment. `decided`: the definition shows its target; `written`: it
is active and the view shows every member; `history`: the store has every row. The members are
compared with an independent computation. Meanwhile GETs and commands are sent at a steady rate, and
a sample of the commands is followed until it is visible; the same is measured beforehand without an
assignment.
"""

from __future__ import annotations

import argparse
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import takewhile
from typing import NamedTuple, TypeVar

import httpx

from bench import _common as common
from bench import _pipeline as pipeline
from bench import _population as population
from bench import _view as view
from bench._probe import VisibilityProbe
from segments.settings import Settings
from segments.state.history.sqlite import database_path

TARGET_DECIDED_S, TARGET_WRITTEN_S, TARGET_RAISED_S = 2, 8, 12
TARGET_GET_P99_MS, TARGET_VISIBLE_P99_MS = 20, 1_000
FIRST_PERCENT, RAISED_PERCENT = 10, 25
_SEGMENT = "SHARE"
_TIMEOUT_S = 600.0
_POLL_INTERVAL_S = 0.02
_PROBE_INTERVAL_S = 0.01
_ENDLESS = 10_000_000

T = TypeVar("T")


class Times(NamedTuple):
    """Seconds since the request."""

    decided_s: float
    written_s: float
    history_s: float


class Load:
    """Sends GETs and commands at a steady rate while something else is measured."""

    def __init__(
        self, settings: Settings, client: httpx.Client, options: argparse.Namespace
    ) -> None:
        ids = common.user_ids(options.users)
        self._users, self._fresh = ids[: len(ids) // 2], iter(ids[len(ids) // 2 :])
        self._settings = settings
        self._client = client
        self._options = options
        self._first = 0

    def during(self, work: Callable[[], T]) -> tuple[T, str]:
        """(result of `work`, summary of the load)"""
        options = self._options
        probe = VisibilityProbe(self._settings, self._client, view.SEGMENTS[0], _PROBE_INTERVAL_S)
        shape = {name: getattr(options, name) for name in ("users", "connections")}
        endless_s = _ENDLESS / options.get_rate
        port = self._settings.http.port
        gets = view.start_load(
            self._settings, "get", port, rate=options.get_rate, seconds=endless_s, **shape
        )
        common.wait_until(lambda: "warm" in gets.output(), _TIMEOUT_S, "the load")
        stopping = threading.Event()
        changes = pipeline.changes(self._users, self._first, _ENDLESS, seed=self._first)
        self._first += _ENDLESS
        commands = takewhile(lambda _: not stopping.is_set(), changes)
        every = options.rate // options.sampled_rate
        with ThreadPoolExecutor(1) as pool:
            probing = pool.submit(probe.run, commands, self._fresh, options.rate, every)
            try:
                result = work()
            finally:
                stopping.set()
            read = view.parse_load(gets.stop_and_read())
            probing.result()
        return result, _summary(read, probe)


def _summary(read: dict[str, float], probe: VisibilityProbe) -> str:
    visible_ms = probe.visible_ms
    return (
        f"GET p50 {read['p50_ms']:.1f} ms, p99 {read['p99_ms']:.1f} ms (target "
        f"{TARGET_GET_P99_MS}), longest {read['max_ms']:.0f} ms at {read['rate']:,.0f} /s; "
        f"command visible p50 {common.percentile(visible_ms, 0.5):.0f} ms, "
        f"p99 {common.percentile(visible_ms, 0.99):.0f} ms (target {TARGET_VISIBLE_P99_MS}), "
        f"longest {max(visible_ms):.0f} ms at {probe.rate:,.0f} /s, {len(visible_ms)} sampled"
    )


def main() -> None:
    """Measure and print."""
    parser = common.arguments(
        __doc__,
        users=1_000_000,
        partitions=8,
        rate=100,
        sampled_rate=10,
        connections=4,
        get_rate=200,
        quiet_s=15,
    )
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
        httpx.Client(base_url=pipeline.base_url(settings), timeout=60) as client,
    ):
        users = common.user_ids(options.users)
        processes = population.start(settings, users, client)
        load = Load(settings, client, options)
        _, quiet = load.during(lambda: time.sleep(options.quiet_s))
        run = Run(settings, client, users, processes)
        first, with_first = load.during(run.create)
        raised, with_raised = load.during(run.raise_percent)
        run.check()
    print(
        f"{FIRST_PERCENT} % of {options.users:,} users: exact; decided {first.decided_s:.2f} s "
        f"(target {TARGET_DECIDED_S}), written {first.written_s:.2f} s (target "
        f"{TARGET_WRITTEN_S}), history {first.history_s:.2f} s"
    )
    print(
        f"raised to {RAISED_PERCENT} %: exact; decided {raised.decided_s:.2f} s, written "
        f"{raised.written_s:.2f} s (target {TARGET_RAISED_S}), history {raised.history_s:.2f} s"
    )
    for name, summary in (("before", quiet), ("10 %", with_first), ("25 %", with_raised)):
        print(f"{name}: {summary}")
    print(f"CPU time per membership, µs: {run.spent}")
    print(
        common.conditions(
            partitions=options.partitions,
            applications=" ".join(pipeline.APPLICATIONS),
            connections=options.connections,
        )
    )


class Run:
    """Creates one segment, then raises its percentage; `spent` is the CPU time by process."""

    def __init__(
        self,
        settings: Settings,
        client: httpx.Client,
        users: list[str],
        processes: dict[str, common.Process],
    ) -> None:
        self._settings = settings
        self._client = httpx.Client(base_url=client.base_url, timeout=60)
        self._users = users
        self._processes = processes
        self.spent = ""

    def create(self) -> Times:
        """Create the segment for the first share."""
        before = self._cpu()
        body = {"segment": _SEGMENT, "auto": {"percent": FIRST_PERCENT}}
        started_s = time.monotonic()
        self._client.post("/v1/segments", json=body).raise_for_status()
        times = self._follow(started_s, FIRST_PERCENT)
        count = self._count(FIRST_PERCENT)
        self.spent = ", ".join(
            f"{name} {(cpu_s - before[name]) / count * 1e6:.0f}"
            for name, cpu_s in self._cpu().items()
        )
        self._compare(FIRST_PERCENT)
        return times

    def raise_percent(self) -> Times:
        """Raise the percentage."""
        body = {"auto": {"percent": RAISED_PERCENT}}
        started_s = time.monotonic()
        self._client.patch(f"/v1/segments/{_SEGMENT}", json=body).raise_for_status()
        return self._follow(started_s, RAISED_PERCENT)

    def check(self) -> None:
        """BenchError unless exactly the expected users are members, each with one row."""
        self._compare(RAISED_PERCENT)
        with closing(self._store()) as store:
            [(users,)] = store.execute(
                "SELECT count(DISTINCT user_id) FROM history WHERE segment = ?", (_SEGMENT,)
            ).fetchall()
        if users != self._count(RAISED_PERCENT):
            raise common.BenchError(f"history has rows of {users} users")
        self._client.close()

    def _count(self, percent: int) -> int:
        return population.share_size(len(self._users), percent)

    def _follow(self, started_s: float, percent: int) -> Times:
        count = self._count(percent)

        def decided() -> bool:
            return bool(population.definition(self._client, _SEGMENT)["auto"]["target"] == count)

        def written() -> bool:
            shown = population.definition(self._client, _SEGMENT)
            return bool(shown["state"] == "active" and shown["size"] == count)

        return Times(
            self._when(started_s, decided, "the decision"),
            self._when(started_s, written, "every member"),
            self._when(started_s, lambda: self._rows() == count, "every row"),
        )

    def _when(self, started_s: float, predicate: Callable[[], bool], what: str) -> float:
        common.wait_until(predicate, _TIMEOUT_S, what, poll_s=_POLL_INTERVAL_S)
        return time.monotonic() - started_s

    def _rows(self) -> int:
        with closing(self._store()) as store:
            query = "SELECT count(*) FROM history WHERE segment = ?"
            [(count,)] = store.execute(query, (_SEGMENT,)).fetchall()
        return int(count)

    def _store(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{database_path(self._settings)}?mode=ro", uri=True)

    def _compare(self, percent: int) -> None:
        expected = population.expected_members(_SEGMENT, self._users, self._count(percent))
        found = population.members(self._client, _SEGMENT)
        if found != expected:
            raise common.BenchError(
                f"{len(expected - found)} members are missing, {len(found - expected)} unexpected"
            )

    def _cpu(self) -> dict[str, float]:
        spent = {name: common.cpu_s(process.pid) for name, process in self._processes.items()}
        return spent | {"broker": common.broker_cpu_s()}


if __name__ == "__main__":
    main()
