"""Processes a batch of refreshes: fetches states, and retries, gives up or holds back failures.

A user that fails while others succeed is retried at the end of the partition, and given up after
`give_up_after_s`. When no fetch succeeds, the user service is down: the batch is held back (nothing
is committed), and states fetched so far are kept for the next attempt.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from segments.contracts import times
from segments.contracts.log import HEADER_TYPE, USER, encode, user_record
from segments.contracts.topics import DLQ_TOPIC, REFRESHES_TOPIC, SHARDS_TOPIC
from segments.kafka.clients import RecordHeaders
from segments.settings import UserServiceSettings
from segments.streams import dlq
from segments.streams.refresh.fetcher import RETRY_AFTER_MAX_S, Fetcher, FetchFailure
from segments.streams.refresh.refresh_plan import (
    PendingRefresh,
    RefreshRecord,
    UserRefresh,
    plan,
    retry_value,
)
from segments.streams.refresh.user_service import FetchedAccount
from segments.telemetry import logs, metrics

REFRESH_STAGES = ("decode", "fetch")
"""Stages at which a refresh can fail and go to the dead letter queue."""
# Pause when a batch has only retries that are not yet due.
IDLE_PAUSE_S = 0.1

_log = logs.get(__name__)


class OutgoingRecord(NamedTuple):
    """A record to produce. `topic`: its name in topics.yaml; the partition follows from `key`."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


class BatchResult(NamedTuple):
    """Records to produce. With `hold_back_s` nothing is committed and the batch is retried."""

    records: list[OutgoingRecord]
    hold_back_s: float | None


class RefreshSource(NamedTuple):
    """The topic of refreshes: its name on the cluster and its UUID in Kafka."""

    topic: str
    topic_id: str


class BatchProcessor:
    """Processes batches one at a time, in the event loop of its fetcher."""

    def __init__(
        self, source: RefreshSource, settings: UserServiceSettings, fetcher: Fetcher | None
    ) -> None:
        self._source = source
        self._settings = settings
        self._fetcher = fetcher
        # State of a batch that is held back: fetched states, and when the failing fetches began.
        self._fetched: dict[str, tuple[int, FetchedAccount]] = {}
        self._began: dict[str, float] = {}
        self._held_back = 0

    async def process(self, refreshes: Iterable[PendingRefresh]) -> BatchResult:
        """Process a batch; takes at most a few seconds more than fetcher.BUDGET_S."""
        batch = plan(refreshes)
        records = [
            self._user(w, w.supplied, FetchedAccount(w.supplied.refresh.state, None))
            for w in batch
            if w.supplied is not None and w.supplied.refresh.state is not None
        ]
        fetches = [w for w in batch if w.fetch is not None]
        if self._fetcher is None:
            records += [
                self._dead_letter(w, "user_service_not_configured", "no base_url") for w in fetches
            ]
            return BatchResult(records, None)
        results = await self._results(self._fetcher, fetches)
        return self._decide(self._fetcher, records, fetches, results)

    async def _results(
        self, fetcher: Fetcher, fetches: list[UserRefresh]
    ) -> dict[str, FetchedAccount | FetchFailure | None]:
        now_ms = times.now_ms()
        fresh = [w for w in fetches if not w.retry and not self._is_fetched(w)]
        for w in fresh:
            fetcher.begin(w.user_id, _order(w), attempts=self._settings.attempts)
        for w in fetches:
            # Retries run beside the batches: a slow failure delays no other user.
            if w.retry and w.not_before_ms <= now_ms and not self._is_fetched(w):
                fetcher.begin(w.user_id, _order(w), attempts=1)
        await fetcher.settle([w.user_id for w in fresh])
        results: dict[str, FetchedAccount | FetchFailure | None] = {}
        for w in fetches:
            if self._is_fetched(w):
                results[w.user_id] = self._fetched[w.user_id][1]
            else:
                results[w.user_id] = fetcher.take(w.user_id, _order(w))
        return results

    def _decide(
        self,
        fetcher: Fetcher,
        records: list[OutgoingRecord],
        fetches: list[UserRefresh],
        results: Mapping[str, FetchedAccount | FetchFailure | None],
    ) -> BatchResult:
        retries: list[OutgoingRecord] = []
        failed: list[tuple[UserRefresh, FetchFailure | None]] = []
        waiting = 0
        for w in fetches:
            result = results[w.user_id]
            if isinstance(result, FetchedAccount):
                records.append(self._user(w, w.fetch, result))
            elif w.retry and result is None:
                waiting += 1
                retries.append(self._retry(w, None))
            elif w.retry or self._others_succeeded(fetcher, w, result):
                retries.append(self._give_up_or_retry(fetcher, w, result))
            else:
                failed.append((w, result))
        if failed:
            return BatchResult(records, self._hold_back(fetcher, fetches, results, failed))
        self._reset()
        if waiting and waiting == len(retries) and not records:
            return BatchResult([], self._until_due(fetches))
        return BatchResult(records + retries, None)

    def _others_succeeded(
        self, fetcher: Fetcher, w: UserRefresh, failure: FetchFailure | None
    ) -> bool:
        """Whether another fetch succeeded since this one began: the service is up."""
        began = fetcher.began(w.user_id) if failure is None else failure.began
        began = min(began, self._began.get(w.user_id, began))
        return fetcher.last_success > began

    def _hold_back(
        self,
        fetcher: Fetcher,
        fetches: list[UserRefresh],
        results: Mapping[str, FetchedAccount | FetchFailure | None],
        failed: list[tuple[UserRefresh, FetchFailure | None]],
    ) -> float:
        """Keep the states fetched by this attempt, and return the delay of the next in seconds."""
        self._fetched = {
            w.user_id: (_order(w), result)
            for w in fetches
            if isinstance(result := results[w.user_id], FetchedAccount)
        }
        began = {w.user_id: f.began for w, f in failed if f is not None}
        self._began = {user: min(at, self._began.get(user, at)) for user, at in began.items()}
        fetcher.forget([w.user_id for w, failure in failed if failure is None])
        failures = [failure.error for _, failure in failed if failure is not None]
        self._held_back += 1
        if self._held_back == 1:
            reason = str(failures[0]) if failures else "no response in time"
            _log.warning("user_service_unavailable", users=len(failed), reason=reason)
        exponent = min(self._held_back - 1, 20)
        wait_ms: float = min(
            self._settings.backoff_ms * 2.0**exponent, self._settings.backoff_max_ms
        )
        requested_s = max((error.retry_after_s or 0.0 for error in failures), default=0.0)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not security
        return max(wait_ms / 1000 * jitter, min(requested_s, RETRY_AFTER_MAX_S))

    def _reset(self) -> None:
        if self._held_back:
            _log.info("user_service_recovered", attempts=self._held_back)
        self._held_back = 0
        self._fetched = {}
        self._began = {}

    def _until_due(self, fetches: list[UserRefresh]) -> float:
        due_ms = min(w.not_before_ms for w in fetches) - times.now_ms()
        return min(max(due_ms / 1000, IDLE_PAUSE_S / 10), IDLE_PAUSE_S)

    def _give_up_or_retry(
        self, fetcher: Fetcher, w: UserRefresh, failure: FetchFailure | None
    ) -> OutgoingRecord:
        first_failed_at_ms = w.first_failed_at_ms
        failing_s = (
            0.0 if first_failed_at_ms is None else (times.now_ms() - first_failed_at_ms) / 1000
        )
        # A rate limit is not caused by the user, and no user is given up while the service is
        # down.
        at_fault = (
            failure is not None
            and failure.error.outcome != "rate_limited"
            and fetcher.last_success > failure.began - self._settings.backoff_max_ms / 1000
        )
        if failure is None or not at_fault or failing_s < self._settings.give_up_after_s:
            return self._retry(w, failure)
        metrics.USER_SERVICE_GIVEN_UP.inc()
        _log.error("user_given_up", user_id=w.user_id, reason=str(failure.error))
        return self._dead_letter(w, failure.error.outcome, str(failure.error))

    def _retry(self, w: UserRefresh, failure: FetchFailure | None) -> OutgoingRecord:
        retry_after_s = None if failure is None else failure.error.retry_after_s
        value = retry_value(
            w,
            times.now_ms(),
            self._settings,
            tried=not w.retry or failure is not None,
            retry_after_s=min(retry_after_s or 0.0, RETRY_AFTER_MAX_S),
        )
        return OutgoingRecord(REFRESHES_TOPIC, w.user_id.encode(), value, [])

    def _user(
        self, w: UserRefresh, pending: PendingRefresh | None, account: FetchedAccount
    ) -> OutgoingRecord:
        assert pending is not None
        refresh = (self._source.topic_id, pending.partition, pending.order)
        value = user_record(w.user_id, account.state, account.version, refresh)
        return OutgoingRecord(
            SHARDS_TOPIC, w.user_id.encode(), encode(value), [(HEADER_TYPE, USER.encode())]
        )

    def _dead_letter(self, w: UserRefresh, exception: str, message: str) -> OutgoingRecord:
        assert w.fetch is not None
        return dead_letter(self._source.topic, w.fetch.record, "fetch", exception, message)

    def _is_fetched(self, w: UserRefresh) -> bool:
        order, _ = self._fetched.get(w.user_id, (-1, None))
        return order >= _order(w)


def dead_letter(
    topic: str, record: RefreshRecord, stage: str, exception: str, message: str
) -> OutgoingRecord:
    """The dead letter of a refresh. `topic` is the name on the cluster."""
    metrics.DLQ_RECORDS.labels("users", stage).inc()
    headers = dlq.headers(
        record.headers,
        (topic, record.partition, record.offset),
        stage=stage,
        exception=exception,
        message=message,
    )
    return OutgoingRecord(DLQ_TOPIC, record.key, record.value, headers)


def _order(w: UserRefresh) -> int:
    assert w.fetch is not None
    return w.fetch.order
