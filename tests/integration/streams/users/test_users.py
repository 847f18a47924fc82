"""The users application as a process, with a real user service and a real broker."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest

from segments.contracts.partitioning import partition_of
from segments.kafka.clients import topic_ids
from segments.settings import Settings
from tests.support import deployments, records
from tests.support.user_service import UserService


def refresh(settings: Settings, *users: str, reason: str = "event", **fields: Any) -> None:
    for user in users:
        value = orjson.dumps({"user_id": user, "reason": reason, **fields})
        records.send(settings, "users.refreshes", [value], key=user.encode(), partitioner="murmur2")


def states(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """The `user` records of each user, in the order of the log."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records.read(settings, "segments.shards"):
        assert record.headers == {"type": b"user"}
        assert record.key is not None
        assert record.partition == partition_of(record.key.decode(), settings.partitions)
        found.setdefault(record.json["user_id"], []).append(record.json)
    return found


def newest(settings: Settings) -> dict[str, tuple[str, int | None]]:
    """What a shard would hold of each user: the record of the highest refresh."""
    held = {}
    for user, found in states(settings).items():
        last = max(found, key=lambda record: record["refresh"][2])
        held[user] = (last["account"], last["version"])
    return held


def dead(settings: Settings) -> list[str]:
    return [
        record.headers["__connect.errors.exception.class.name"].decode()
        for record in records.read(settings, "segments.dlq")
    ]


def test_states_arrive_with_the_place_of_their_event(
    served: Settings, service: UserService
) -> None:
    here, blocked, gone, never = *service.ids()[:3], str(uuid.uuid4())
    service.put(blocked, "blocked")
    service.delete(gone)
    users = deployments.start(served, "users")
    refresh(served, here, blocked, gone, never)
    expected = {
        here: ("active", 1),
        blocked: ("blocked", 2),
        gone: ("deleted", None),
        never: ("deleted", None),
    }
    deployments.wait_until(lambda: newest(served) == expected, what="all four states")
    topic_id = topic_ids(served, ["users.refreshes"])["users.refreshes"]
    events = {r.json["user_id"]: r for r in records.read(served, "users.refreshes")}
    for user, found in states(served).items():
        assert found[0]["refresh"] == [topic_id, events[user].partition, events[user].offset]
    assert users.stop() == 0


def test_many_events_of_a_user_are_one_fetch(served: Settings, service: UserService) -> None:
    user = service.ids()[0]
    value = orjson.dumps({"user_id": user, "reason": "event"})
    partition = partition_of(user, served.partitions)
    records.send(served, "users.refreshes", [value] * 500, partition=partition)
    deployments.start(served, "users")

    def newest_refresh() -> bool:
        return max((r["refresh"][2] for r in states(served).get(user, [])), default=-1) == 499

    deployments.wait_until(newest_refresh, what="the state for the last event")
    assert service.calls(user) < 250


def test_a_state_given_by_hand_takes_its_place_in_the_order(
    served: Settings, service: UserService
) -> None:
    user, other = service.ids()[:2]
    refresh(served, user)
    refresh(served, user, other, reason="manual", state="blocked")
    refresh(served, user)
    deployments.start(served, "users")
    deployments.wait_until(
        lambda: newest(served) == {user: ("active", 1), other: ("blocked", None)},
        what="the fetched state above the given one",
    )
    assert service.calls(other) == 0


def test_down_for_a_while_loses_nothing(served: Settings, service: UserService) -> None:
    users = service.ids()
    service.kill()
    application = deployments.start(served, "users")
    refresh(served, *users[:10])
    deployments.wait_until(
        lambda: "user_service_unavailable" in application.log(),
        what="the log to say that it is down",
    )
    refresh(served, *users[10:])
    refresh(served, users[0], reason="manual", state="blocked")
    service.start()
    deployments.wait_until(lambda: len(newest(served)) == len(users), what="everybody's state")
    assert dead(served) == []
    assert newest(served)[users[0]] == ("blocked", None)


FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "403": {"status": 403},
    "204": {"status": 204},
    "redirect": {"answer": "redirect"},
    "garbage": {"answer": "garbage"},
    "wrong id": {"answer": "wrong_id"},
    "huge body": {"answer": "huge"},
    "unknown state": {"answer": "unknown_state"},
    "429": {"status": 429, "retry_after": 1},
    "slow": {"delay_ms": 5_000},
}


def test_users_failing_in_every_way_hold_nobody_up_and_come_later(
    served: Settings, service: UserService
) -> None:
    ids = service.ids()
    poisoned, others = ids[: len(FAULTS)], ids[len(FAULTS) :]
    for user, fault in zip(poisoned, FAULTS.values(), strict=True):
        service.fault(user=user, **fault)
    deployments.start(served, "users")
    refresh(served, *ids)
    deployments.wait_until(
        lambda: set(newest(served)) == set(others), what="everybody else's state"
    )
    # While they go on failing, later events of the others are served.
    calls = [service.calls(user) for user in poisoned]
    version = service.put(others[0], "blocked")
    refresh(served, others[0])
    deployments.wait_until(
        lambda: newest(served)[others[0]] == ("blocked", version), what="the next state"
    )
    deployments.wait_until(
        lambda: all(service.calls(u) > n for u, n in zip(poisoned, calls, strict=True)),
        what="another attempt at each",
    )
    service.fault()
    everybody = dict.fromkeys(ids, ("active", 1)) | {others[0]: ("blocked", version)}
    deployments.wait_until(lambda: newest(served) == everybody, what="the late states")
    events = records.read(served, "users.refreshes")
    for user in poisoned:
        first = min(r.offset for r in events if r.json["user_id"] == user)
        assert states(served)[user][-1]["refresh"][2] == first
    assert dead(served) == []


@pytest.mark.parametrize("served", [{"give_up_after_s": 0.5}], indirect=True)
def test_a_user_that_always_fails_is_given_up(served: Settings, service: UserService) -> None:
    poison, *others = service.ids()
    service.fault(user=poison, status=500)
    deployments.start(served, "users")
    refresh(served, poison, *others)

    def given_up() -> bool:
        refresh(served, others[0])  # others go on succeeding
        return dead(served) == ["status_5xx"]

    deployments.wait_until(given_up, what="the dead letter", poll_s=0.2)
    assert poison not in newest(served)
    record = records.read(served, "segments.dlq")[0]
    assert record.json["user_id"] == poison
    assert record.headers["__connect.errors.stage"] == b"fetch"


@pytest.mark.parametrize("served", [{"give_up_after_s": 0.5}], indirect=True)
def test_nobody_is_given_up_while_the_service_answers_nobody(
    served: Settings, service: UserService
) -> None:
    users = service.ids()
    service.fault(status=503)
    deployments.start(served, "users")
    refresh(served, *users)
    # Far more calls than give_up_after_s has room for if each failure counted.
    deployments.wait_until(lambda: service.calls() > 100, what="many attempts")
    assert dead(served) == []
    assert states(served) == {}
    service.fault()
    deployments.wait_until(lambda: len(newest(served)) == len(users), what="everybody's state")


def test_everybody_told_to_slow_down(served: Settings, service: UserService) -> None:
    users = service.ids()
    service.fault(status=429, retry_after=1)
    application = deployments.start(served, "users")
    refresh(served, *users)
    deployments.wait_until(lambda: "rate_limited" in application.log(), what="the first refusals")
    # Asked to wait a second: far fewer calls than the backoff of 20 ms would make.
    assert service.calls() <= 3 * len(users)
    service.fault()
    deployments.wait_until(lambda: len(newest(served)) == len(users), what="everybody's state")
    assert dead(served) == []


def test_what_is_no_refresh_goes_to_the_queue(served: Settings, service: UserService) -> None:
    user = service.ids()[0]
    own = partition_of(user, served.partitions)
    good = orjson.dumps({"user_id": user, "reason": "event"})
    values = [b"{", None, b"[]", orjson.dumps({"user_id": "x", "reason": "event"}), good]
    records.send(served, "users.refreshes", values, partition=own)
    records.send(served, "users.refreshes", [good], partition=(own + 1) % served.partitions)
    deployments.start(served, "users")
    deployments.wait_until(lambda: newest(served) == {user: ("active", 1)}, what="the good one")
    deployments.wait_until(lambda: dead(served) == ["RefreshError"] * 5, what="the five others")


def test_without_a_user_service_given_states_are_served(deployment: Settings) -> None:
    given, asked = str(uuid.uuid4()), str(uuid.uuid4())
    application = deployments.start(deployment, "users")
    refresh(deployment, given, reason="manual", state="active")
    refresh(deployment, asked)
    deployments.wait_until(
        lambda: newest(deployment) == {given: ("active", None)}, what="the state"
    )
    deployments.wait_until(
        lambda: dead(deployment) == ["user_service_not_configured"], what="the dead letter"
    )
    assert "user_service.base_url" in application.log()


def test_killed_in_the_middle_serves_everybody(served: Settings, service: UserService) -> None:
    service.fault(delay_ms=20)
    users = [str(uuid.uuid4()) for _ in range(100)] + service.ids()
    refresh(served, *users)
    for number in range(3):
        before = service.calls()
        application = deployments.start(served, "users", label=f"users-{number}")
        deployments.wait_until(lambda before=before: service.calls() > before, what="a call")  # type: ignore[misc] # a default
        application.kill()
    service.fault()
    deployments.start(served, "users", label="users-last")
    deployments.wait_until(lambda: set(newest(served)) == set(users), what="everybody's state")
