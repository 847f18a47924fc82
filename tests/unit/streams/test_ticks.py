"""Scheduling of ticks: heartbeats, due work, and the pace of jobs."""

from __future__ import annotations

import pytest

from segments.streams.ticks import TickSchedule, WorkPace


def test_one_heartbeat_per_interval() -> None:
    schedule = TickSchedule(1_000)
    times = range(5_000, 8_001, 100)
    appended = [now_ms for now_ms in times if schedule.should_append(now_ms, None)]
    assert appended == [5_000, 6_000, 7_000, 8_000]


def test_due_work_has_one_tick_in_flight() -> None:
    schedule = TickSchedule(1_000)
    assert schedule.should_append(10_000, 9_990)
    assert not schedule.should_append(10_500, 9_990)
    schedule.applied()
    assert schedule.should_append(10_501, 9_990)


def test_a_clock_ahead_of_the_brokers_does_not_spin() -> None:
    schedule = TickSchedule(1_000)
    appended = 0
    for now_ms in range(10_000, 10_100):
        appended += schedule.should_append(now_ms, 9_990)
        schedule.applied()
    assert appended == 5


def test_remaining_work_gets_its_next_tick_at_once() -> None:
    schedule = TickSchedule(1_000)
    assert schedule.should_append(10_000, 0)
    schedule.applied()
    assert schedule.should_append(10_001, 0)


def test_one_slice_at_a_time_per_process() -> None:
    pace = WorkPace(0.0)
    assert pace.may_start(10_000)
    pace.started(3, 10_000)
    assert not pace.may_start(10_050)
    pace.finished(5, 10_060)
    assert not pace.may_start(10_060), "the tick of another partition is not this slice's end"
    pace.finished(3, 10_070)
    assert pace.may_start(10_070)


@pytest.mark.parametrize("took_ms", [0, 10, 400])
def test_the_pause_is_proportional_to_the_slice(took_ms: int) -> None:
    pace = WorkPace(0.5)
    pace.started(0, 10_000)
    ended_ms = 10_000 + took_ms
    pace.finished(0, ended_ms)
    first = next(now_ms for now_ms in range(ended_ms, 20_000) if pace.may_start(now_ms))
    assert first - ended_ms == took_ms // 2


@pytest.mark.parametrize("partitions", [[0], [0, 1], [2, 3, 5, 7], list(range(12))])
def test_partitions_take_turns(partitions: list[int]) -> None:
    shards = [(partition, "a job") for partition in partitions]
    for between in range(1, 14):
        pace = WorkPace(0.0)
        began = []
        for now_ms in range(between * 3 * len(partitions)):
            [(partition, _), *_] = pace.in_turn(shards)
            if now_ms % between == 0:
                pace.started(partition, now_ms)
                began.append(partition)
        assert began == partitions * 3


def test_turns_continue_when_partitions_are_assigned_and_revoked() -> None:
    pace = WorkPace(0.0)
    pace.started(5, 10_000)
    assert pace.in_turn([]) == []
    assert [partition for partition, _ in pace.in_turn([(1, 0), (4, 0), (6, 0)])] == [6, 1, 4]


def test_a_slice_of_a_revoked_partition_times_out() -> None:
    pace = WorkPace(1.0)
    pace.started(0, 10_000)
    assert not pace.may_start(10_999)
    assert pace.may_start(11_000)


def test_a_clock_set_back_ends_the_pause() -> None:
    pace = WorkPace(10.0)
    pace.started(0, 10_000)
    pace.finished(0, 10_900)
    assert not pace.may_start(10_950)
    assert pace.may_start(4_000)
