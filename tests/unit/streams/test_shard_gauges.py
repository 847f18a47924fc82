"""Lag metrics of applications and gauges of shards."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from segments.settings import Settings
from segments.streams import lag, quix
from segments.streams.lag import Consumption, LagReporter
from segments.streams.shard_gauges import ShardGauges

APPLICATION = "of-a-test"
TOPIC = "users.events"


class Clock:
    """Seconds, for the monotonic and the other clock."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def time(self) -> float:
        return self.now_s

    monotonic = time

    def time_ns(self) -> int:
        return round(self.now_s * 1e9)


class Group:
    """A consumer group's member: what is assigned to it, and how far it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        self.places: dict[int, tuple[int, int]] = {}
        """Partition -> (next offset, high watermark)."""
        self.consumption = Consumption(APPLICATION, TOPIC)
        self._clock = clock
        loops: list[Any] = []
        monkeypatch.setattr(quix, "every_loop", lambda _app, task: loops.append(task))
        monkeypatch.setattr(quix, "queued", lambda _app: 7)
        monkeypatch.setattr(quix, "assignment", lambda _app: [(TOPIC, p) for p in self.places])
        monkeypatch.setattr(quix, "consumer_position", lambda _app, _topic, p: self.places[p])
        LagReporter(SimpleNamespace(), Settings(), APPLICATION, {TOPIC: self.consumption})  # type: ignore[arg-type]
        [self._loop] = loops

    def turn(self, after_s: float = 1.0) -> None:
        self._clock.now_s += after_s
        self._loop()

    def consumed(self, partition: int, age_s: float) -> None:
        self.consumption.consumed(partition, round((self._clock.now_s - age_s) * 1000))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lag, "time", clock)
    return clock


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Group]:
    group = Group(monkeypatch, clock)
    yield group
    group.places = {}
    group.turn()


def reported(name: str, partition: int) -> float | None:
    labels = {"application": APPLICATION, "topic": TOPIC, "partition": str(partition)}
    return REGISTRY.get_sample_value(name, labels)


def lag_s(partition: int = 0) -> float | None:
    return reported("segments_lag_seconds", partition)


def test_the_age_of_consumed_records_is_reported_while_more_wait(group: Group) -> None:
    group.places[0] = (10, 100)
    group.consumed(0, age_s=40)
    group.turn()
    assert (reported("segments_lag_records", 0), lag_s()) == (90, 40)
    group.places[0] = (20, 100)
    group.turn()
    assert lag_s() == 40


def test_after_catching_up_the_last_age_is_reported_once(group: Group) -> None:
    group.places[0] = (100, 100)
    group.consumed(0, age_s=40)
    group.turn()
    assert lag_s() == 40
    group.turn()
    assert lag_s() == 0


def test_the_lag_of_unconsumed_records_grows(group: Group) -> None:
    group.places[0] = (10, 100)
    group.turn()
    assert lag_s() == 0
    group.turn(after_s=30)
    assert lag_s() == 30
    group.places[0] = (11, 100)
    group.turn()
    assert lag_s() == 0


def test_a_control_record_is_no_lag(group: Group) -> None:
    group.places[0] = (99, 100)
    group.turn()
    group.turn(after_s=30)
    assert lag_s() == 0


def test_the_lag_of_a_single_held_back_record_grows(group: Group, clock: Clock) -> None:
    group.places[0] = (99, 100)
    group.consumption.held_back(0, round(clock.now_s * 1000))
    group.turn(after_s=20)
    assert lag_s() == 20
    group.places[0] = (100, 100)
    group.consumed(0, age_s=20)
    group.turn()
    group.turn()
    assert lag_s() == 0


def test_a_revoked_partition_is_no_longer_reported(group: Group) -> None:
    group.places = {0: (10, 100), 1: (10, 100)}
    group.consumed(0, age_s=40)
    group.turn()
    assert lag_s(0) is not None
    del group.places[0]
    group.turn()
    assert (reported("segments_lag_records", 0), lag_s(0)) == (None, None)
    assert reported("segments_lag_records", 1) == 90
    # It comes back with nothing of what it was.
    group.places[0] = (50, 100)
    group.turn()
    assert lag_s(0) == 0


def test_an_unknown_position_is_not_reported(group: Group) -> None:
    group.places = {0: (-1001, 100)}
    group.turn()
    group.turn(after_s=60)
    assert (reported("segments_lag_records", 0), lag_s()) == (None, 0)


def test_held_back_records_are_reported_while_the_position_is_unknown(
    group: Group, clock: Clock
) -> None:
    group.places = {0: (50, 100)}
    group.turn()
    group.consumption.held_back(0, round(clock.now_s * 1000))
    group.places = {0: (-1001, 100)}
    group.turn(after_s=20)
    assert (reported("segments_lag_records", 0), lag_s()) == (50, 20)


def test_loop_time_and_producer_queue_are_reported(group: Group, clock: Clock) -> None:
    group.turn()
    labels = {"application": APPLICATION}
    at_s = REGISTRY.get_sample_value("segments_last_turn_timestamp_seconds", labels)
    assert at_s == clock.now_s
    assert REGISTRY.get_sample_value("segments_producer_queue_records", labels) == 7
    limit = REGISTRY.get_sample_value("segments_producer_queue_limit_records", labels)
    assert limit == quix.PRODUCER_QUEUE_MAX_RECORDS


def shard(**state: Any) -> Any:
    """What is looked at of a shard."""
    population = SimpleNamespace(timers=range(3), deferred_users=state.get("parked", 0))
    return SimpleNamespace(
        jobs=state.get("jobs", 0),
        oldest_job_at=state.get("oldest_job_at"),
        population=population,
        shard={"next_ordinal": 5, "log_time": 0},
    )


def test_gauges_of_a_revoked_shard_are_removed() -> None:
    gauges = ShardGauges(8, (APPLICATION, "segments.shards"))
    names = ["jobs", "oldest_job_age_seconds", "timers", "parked_users", "users"]

    def values(partition: str) -> list[float | None]:
        labels = {"partition": partition}
        return [REGISTRY.get_sample_value(f"segments_{name}", labels) for name in names]

    gauges.update([(901, shard(jobs=2, parked=4)), (902, shard())])
    assert values("901") == [2, 0, 3, 4, 5]
    gauges.update([(902, shard(jobs=1, oldest_job_at=1))])
    assert values("901") == [None] * 5
    jobs, age_s, *_ = values("902")
    assert jobs == 1
    assert age_s is not None
    assert age_s > 1e9, "since 1970"
    gauges.update([])
    assert values("902") == [None] * 5
    assert REGISTRY.get_sample_value("segments_partitions") == 8
