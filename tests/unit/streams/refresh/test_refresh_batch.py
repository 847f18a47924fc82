"""Processing of refresh batches, with a scripted user service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest

from segments.contracts.partitioning import partition_of
from segments.settings import UserServiceSettings
from segments.streams.refresh.fetcher import Fetcher
from segments.streams.refresh.refresh_batch import BatchProcessor, BatchResult, RefreshSource
from segments.streams.refresh.refresh_plan import (
    PendingRefresh,
    RefreshError,
    RefreshRecord,
    parse,
    plan,
)
from segments.streams.refresh.user_service import FetchedAccount, FetchError, UserServiceClient

PARTITIONS = 1
USERS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(300)]
Answer = Callable[[str, int], FetchedAccount | FetchError]
FAILURE = FetchError("status_5xx", "status 500")


class Service:
    """Stands in for the client; `answer(user, n)` is called with the overall call number n."""

    def __init__(self, answer: Answer, delay_s: float = 0.0) -> None:
        self.answer = answer
        self.delay_s = delay_s
        self.requested: list[str] = []

    async def fetch(self, user_id: str) -> FetchedAccount:
        self.requested.append(user_id)
        number = len(self.requested)
        await asyncio.sleep(self.delay_s)
        answer = self.answer(user_id, number)
        if isinstance(answer, FetchError):
            raise answer
        return answer

    async def close(self) -> None:
        self.requested.clear()


def settings(**fields: Any) -> UserServiceSettings:
    defaults: dict[str, Any] = {
        "base_url": "http://127.0.0.1:1",
        "attempts": 2,
        "backoff_ms": 1,
        "backoff_max_ms": 50,
        "concurrency": 4,
    }
    return UserServiceSettings(**(defaults | fields))


def serving(service: Service, chosen: UserServiceSettings) -> tuple[BatchProcessor, Fetcher]:
    fetching = Fetcher(cast(UserServiceClient, service), chosen)
    return BatchProcessor(RefreshSource("p.users.refreshes", "beef"), chosen, fetching), fetching


def pending(offset: int, user: str = USERS[0], **fields: Any) -> PendingRefresh:
    value = orjson.dumps({"user_id": user, "reason": "event"} | fields)
    return parse(RefreshRecord(0, offset, user.encode(), value, []), PARTITIONS)


def on(served: BatchResult, topic: str) -> list[dict[str, Any]]:
    return [orjson.loads(m.value or b"") for m in served.records if m.topic == topic]


def accounts(served: BatchResult) -> dict[str, tuple[str, int]]:
    return {r["user_id"]: (r["account"], r["refresh"][2]) for r in on(served, "segments.shards")}


def active(_user: str, _number: int) -> FetchedAccount:
    return FetchedAccount("active", 1)


def failing(*users: str) -> Answer:
    return lambda user, _: FAILURE if user in users else FetchedAccount("active", 1)


def test_the_newest_refresh_of_a_user_counts() -> None:
    group = [pending(5), pending(9), pending(7), pending(20, origin_offset=6)]
    (planned,) = plan(group)
    assert planned.fetch is not None
    assert planned.fetch.order == 9
    assert planned.supplied is None
    assert not planned.retry


def test_a_supplied_state_replaces_only_earlier_fetches() -> None:
    supplied = pending(7, state="blocked", reason="manual")
    retry = pending(30, origin_offset=3, first_failed_at_ms=1, reason="retry")
    (planned,) = plan([pending(5), supplied, retry])
    assert planned.supplied == supplied
    assert planned.fetch is None
    (planned,) = plan([supplied, pending(8)])
    assert planned.supplied == supplied
    assert planned.fetch is not None


def test_a_retry_cannot_claim_a_later_offset_than_its_own() -> None:
    assert pending(5, origin_offset=900).order == 5


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"user_id":"x","reason":"event"}'])
def test_invalid_refreshes(value: bytes | None) -> None:
    with pytest.raises(RefreshError):
        parse(RefreshRecord(0, 1, None, value, []), PARTITIONS)


def test_a_refresh_in_the_partition_of_another_user() -> None:
    value = orjson.dumps({"user_id": USERS[0], "reason": "event"})
    own = partition_of(USERS[0], 8)
    assert parse(RefreshRecord(own, 1, None, value, []), 8).order == 1
    with pytest.raises(RefreshError, match="murmur2"):
        parse(RefreshRecord((own + 1) % 8, 1, None, value, []), 8)


async def test_a_transient_failure_is_retried_within_the_batch() -> None:
    service = Service(lambda _, number: FAILURE if number == 1 else FetchedAccount("blocked", 4))
    subject, fetching = serving(service, settings())
    served = await subject.process([pending(3)])
    assert accounts(served) == {USERS[0]: ("blocked", 3)}
    assert served.hold_back_s is None
    await fetching.close()


async def test_without_any_response_the_batch_is_held_back_with_growing_delays() -> None:
    service = Service(lambda *_: FAILURE)
    subject, fetching = serving(service, settings(backoff_ms=10, backoff_max_ms=10_000))
    waits = []
    for _ in range(8):
        served = await subject.process([pending(3), pending(4, USERS[1])])
        assert served.records == []
        assert served.hold_back_s is not None
        waits.append(served.hold_back_s)
    assert waits[-1] > 8 * waits[0]
    assert waits[-1] <= 10
    await fetching.close()


async def test_a_large_batch_detects_an_outage_quickly() -> None:
    service = Service(lambda *_: FAILURE, delay_s=0.001)
    subject, fetching = serving(service, settings())
    batch = [pending(n, user) for n, user in enumerate(USERS)]
    served = await subject.process(batch)
    assert served.hold_back_s is not None
    assert len(service.requested) < len(USERS) / 4
    service.answer = active
    served = await subject.process(batch)
    assert set(accounts(served)) == set(USERS)
    assert served.hold_back_s is None
    await fetching.close()


async def test_an_outage_during_a_batch_gives_up_nobody() -> None:
    service = Service(lambda _, number: FetchedAccount("active", 1) if number <= 100 else FAILURE)
    subject, fetching = serving(service, settings())
    batch = [pending(n, user) for n, user in enumerate(USERS)]
    served = await subject.process(batch)
    answered = set(accounts(served))
    assert len(answered) == 100
    assert served.hold_back_s is not None
    assert on(served, "users.refreshes") == []
    # What was fetched is not fetched again, and is produced again with the rest.
    service.answer = active
    service.requested.clear()
    served = await subject.process(batch)
    assert set(accounts(served)) == set(USERS)
    assert answered.isdisjoint(service.requested)
    assert served.hold_back_s is None
    # A later event asks again.
    service.requested.clear()
    await subject.process([pending(1_000, next(iter(answered)))])
    assert len(service.requested) == 1
    await fetching.close()


async def test_a_failing_user_is_requeued_with_its_original_offset() -> None:
    service = Service(failing(USERS[1]))
    subject, fetching = serving(service, settings())
    before_ms = time.time() * 1000
    served = await subject.process([pending(n, user) for n, user in enumerate(USERS[:8])])
    assert served.hold_back_s is None
    assert set(accounts(served)) == set(USERS[:8]) - {USERS[1]}
    (behind,) = on(served, "users.refreshes")
    assert behind["user_id"] == USERS[1]
    assert behind["reason"] == "retry"
    assert behind["origin_offset"] == 1
    assert behind["not_before_ms"] > behind["first_failed_at_ms"] >= before_ms - 1
    await fetching.close()


async def test_one_slow_response_does_not_delay_the_batch() -> None:
    service = Service(active)
    subject, fetching = serving(service, settings())
    gate = asyncio.Event()
    fetch = service.fetch

    async def slow(user_id: str) -> FetchedAccount:
        if user_id == USERS[0]:
            await gate.wait()
        return await fetch(user_id)

    service.fetch = slow  # type: ignore[method-assign] # in its place
    served = await subject.process([pending(n, user) for n, user in enumerate(USERS[:5])])
    assert set(accounts(served)) == set(USERS[1:5])
    (behind,) = on(served, "users.refreshes")
    # The fetch goes on; its answer counts when the refresh comes around.
    gate.set()
    late = pending(77, **behind)
    served = await outcome(subject, [late])
    assert accounts(served) == {USERS[0]: ("active", 0)}
    assert service.requested.count(USERS[0]) == 1
    await fetching.close()


def retry(offset: int, user: str, *, failing_ms: int, due_in_ms: int = 0) -> PendingRefresh:
    now_ms = int(time.time() * 1000)
    return pending(
        offset,
        user,
        reason="retry",
        origin_offset=1,
        first_failed_at_ms=now_ms - failing_ms,
        not_before_ms=now_ms + due_in_ms,
    )


async def outcome(subject: BatchProcessor, batch: list[PendingRefresh]) -> BatchResult:
    """Serve until something becomes of the batch's retries."""
    for _ in range(1_000):
        served = await subject.process(batch)
        if served.hold_back_s is None:
            return served
        await asyncio.sleep(0.001)
    raise AssertionError("held back for ever")


async def test_a_retry_that_is_not_due_is_not_fetched_and_does_not_spin() -> None:
    service = Service(active)
    subject, fetching = serving(service, settings())
    early = retry(8, USERS[0], failing_ms=100, due_in_ms=60_000)
    served = await subject.process([early])
    assert served.records == []
    assert served.hold_back_s is not None
    assert served.hold_back_s >= 0.01
    # Beside others it goes behind them as it is, so that they are committed.
    served = await subject.process([early, pending(9, USERS[1])])
    assert set(accounts(served)) == {USERS[1]}
    (behind,) = on(served, "users.refreshes")
    assert behind["not_before_ms"] == early.refresh.not_before_ms
    assert behind["first_failed_at_ms"] == early.refresh.first_failed_at_ms
    assert service.requested == [USERS[1]]
    await fetching.close()


async def test_the_delay_doubles_up_to_its_maximum() -> None:
    service = Service(failing(USERS[0]))
    subject, fetching = serving(service, settings(backoff_ms=10, backoff_max_ms=5_000))
    waits = []
    for failing_ms in (1_000, 2_000, 100_000):
        served = await outcome(subject, [retry(8, USERS[0], failing_ms=failing_ms)])
        (behind,) = on(served, "users.refreshes")
        waits.append(behind["not_before_ms"] - int(time.time() * 1000))
    assert waits[0] == pytest.approx(1_000, abs=500)
    assert waits[1] == pytest.approx(2_000, abs=500)
    assert waits[2] == pytest.approx(5_000, abs=500)
    await fetching.close()


async def test_a_user_is_given_up_after_the_time_limit_while_others_succeed() -> None:
    service = Service(failing(USERS[0]))
    subject, fetching = serving(service, settings(give_up_after_s=10, backoff_max_ms=60_000))
    late = retry(8, USERS[0], failing_ms=11_000)
    early = retry(9, USERS[0], failing_ms=9_000)
    assert on(await outcome(subject, [pending(3, USERS[1])]), "users.refreshes") == []
    served = await outcome(subject, [early])
    assert len(on(served, "users.refreshes")) == 1
    served = await outcome(subject, [late])
    assert on(served, "users.refreshes") == []
    (dead,) = [m for m in served.records if m.topic == "segments.dlq"]
    assert dead.value == late.record.value
    await fetching.close()


@pytest.mark.parametrize(
    ("others_succeed", "error"),
    [(False, FAILURE), (True, FetchError("rate_limited", "status 429", retry_after_s=0.0))],
)
async def test_no_user_is_given_up_for_outages_or_rate_limits(
    others_succeed: bool, error: FetchError
) -> None:
    service = Service(lambda user, _: error if user == USERS[0] else FetchedAccount("active", 1))
    subject, fetching = serving(service, settings(give_up_after_s=10, backoff_max_ms=60_000))
    if others_succeed:
        await outcome(subject, [pending(3, USERS[1])])
    served = await outcome(subject, [retry(8, USERS[0], failing_ms=10**9)])
    assert [m.topic for m in served.records] == ["users.refreshes"]
    await fetching.close()


async def test_a_new_event_of_a_failing_user_is_fetched_at_once() -> None:
    service = Service(active)
    subject, fetching = serving(service, settings())
    late = retry(8, USERS[0], failing_ms=100, due_in_ms=60_000)
    served = await subject.process([late, pending(9)])
    assert accounts(served) == {USERS[0]: ("active", 9)}
    assert on(served, "users.refreshes") == []
    await fetching.close()


async def test_retry_after_longer_than_the_batch_budget() -> None:
    service = Service(lambda *_: FetchError("rate_limited", "status 429", retry_after_s=7.0))
    subject, fetching = serving(service, settings())
    served = await subject.process([pending(1)])
    assert served.hold_back_s == pytest.approx(7.0)
    assert len(service.requested) == 1
    service.answer = lambda *_: FetchError("rate_limited", "status 429", retry_after_s=10.0**9)
    served = await subject.process([pending(1)])
    assert served.hold_back_s == pytest.approx(60.0)
    await fetching.close()
