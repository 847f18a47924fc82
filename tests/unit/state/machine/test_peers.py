"""Known bugs of similar services, which must not occur here."""

from __future__ import annotations

import pytest

from segments.contracts.times import from_rfc3339, to_rfc3339
from tests.support.machine.world import ALICE, START_MS, World, user_id


@pytest.fixture
def world() -> World:
    world = World(partitions=2)
    world.create("a", "b")
    return world


def in_ms(ms: int) -> dict[str, str]:
    return {"segment": "a", "expires_at": to_rfc3339(START_MS + ms)}


def removals(world: World) -> list[tuple[int, str]]:
    return [(row.at - START_MS, row.cause) for row in world.rows(operation="remove")]


def test_a_replaced_expiry_does_not_end_a_permanent_membership(world: World) -> None:
    world.change(add=[in_ms(1_000)])
    world.change(add=["a"])
    world.advance_clock(3_600_000)
    world.settle()
    assert world.memberships() == {"a": None}
    assert removals(world) == []
    assert list(world.due()) == [None, None]


def test_a_removed_expiry_does_not_end_a_later_permanent_membership(world: World) -> None:
    world.change(add=[in_ms(1_000)])
    world.change(remove=["a"])
    world.advance_clock(10)
    world.change(add=["a"])
    world.advance_clock(3_600_000)
    world.settle()
    assert world.memberships() == {"a": None}
    assert removals(world) == [(0, "command")]


def test_remove_and_add_again_with_another_expiry(world: World) -> None:
    world.change(add=[in_ms(1_000)])
    world.change(remove=["a"])
    world.change(add=[in_ms(2_000)])
    world.advance_clock(1_500)
    world.settle()
    assert world.memberships() == {"a": START_MS + 2_000}
    world.advance_clock(1_500)
    world.settle()
    assert removals(world) == [(0, "command"), (2_000, "expired")]


def test_twenty_equal_additions_at_once_are_one_membership_and_one_row(world: World) -> None:
    ids = [
        world.send(number % 2, type="change_memberships", user_id=ALICE, add=["a"])
        for number in range(20)
    ]
    world.run()
    statuses = [world.result(command_id)["status"] for command_id in ids]
    assert statuses == ["applied", *["unchanged"] * 19]
    assert len(world.history) == 1


def test_an_end_three_seconds_ahead_is_kept_to_the_millisecond(world: World) -> None:
    world.advance_clock(789)
    world.change(add=[in_ms(3_789)])
    assert world.memberships() == {"a": START_MS + 3_789}
    world.advance_clock(2_999)
    world.settle()
    assert removals(world) == []
    world.advance_clock(1)
    world.settle()
    assert removals(world) == [(3_789, "expired")]


@pytest.mark.parametrize("offset", ["Z", "+00:00", "+03:00", "-11:30", "+14:00"])
def test_an_expiry_with_a_utc_offset(world: World, offset: str) -> None:
    text = f"2026-11-25T12:00:00.250{offset}"
    world.change(add=[{"segment": "a", "expires_at": text}])
    hours = {"Z": 0.0, "+00:00": 0.0, "+03:00": 3.0, "-11:30": -11.5, "+14:00": 14.0}[offset]
    at = from_rfc3339("2026-11-25T12:00:00.250Z") - int(hours * 3_600_000)
    assert world.memberships() == {"a": at}


@pytest.mark.parametrize("ms", [0, -1, -1_000, -3_600_000])
def test_a_past_expiry_is_rejected(world: World, ms: int) -> None:
    result = world.change(add=["b", in_ms(ms)])
    assert result["error"]["code"] == "already_expired"
    assert result["error"]["segments"] == ["a"]
    assert (world.memberships(), world.history) == ({}, [])


def test_a_command_with_an_unknown_segment_is_not_partially_applied(world: World) -> None:
    command_id = world.send(type="change_memberships", user_id=ALICE, add=["a"], remove=["unknown"])
    world.advance_clock(5_000)
    world.settle()
    result = world.result(command_id)
    assert (result["status"], result["error"]["segments"]) == ("rejected", ["unknown"])
    assert (world.memberships(), world.history) == ({}, [])


def test_the_history_of_a_deleted_segment_stays_complete(world: World) -> None:
    for number in range(500):
        world.change(user=user_id(number), add=["a"])
    world.advance_clock(1_000)
    assert world.delete("a")["status"] == "applied"
    world.settle()
    for number in range(500):
        rows = [(r.operation, r.cause) for r in world.rows(user_id=user_id(number))]
        assert rows == [("add", "command"), ("remove", "segment_deleted")]


def test_concurrent_additions_with_different_expiries(world: World) -> None:
    for number in range(20):
        world.send(
            number % 2, type="change_memberships", user_id=ALICE, add=[in_ms(1_000 + number)]
        )
    world.run()
    assert world.memberships() == {"a": START_MS + 1_019}
    world.advance_clock(10_000)
    world.settle()
    assert removals(world) == [(1_019, "expired")]
    operations = [row.operation for row in world.history]
    assert operations == ["add", *["extend"] * 19, "remove"]
