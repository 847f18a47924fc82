"""A batch of refreshes served: states fetched, failures put behind, given up, or held back.

A user that fails while others succeed is put behind them, at the end of the partition, and given up
after `give_up_after_s`. When nobody is answered the user service is down: the batch is held back
(nothing is committed), and what was fetched is remembered for the next attempt.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from segments.contracts import times
from segments.contracts.log import HEADER_TYPE, USER, encode, user_record
from segments.contracts.topics import DLQ_TOPIC, REFRESHES_TOPIC, SHARDS_TOPIC
from segments.kafka.clients import Headers
from segments.settings import UserServiceSettings
from segments.streams import dlq
from segments.streams.refresh.fetcher import RETRY_AFTER_MAX_S, Failure, Fetching
from segments.streams.refresh.refresh_plan import Pending, RefreshRecord, Wanted, behind, plan
from segments.streams.refresh.user_service import Account
from segments.telemetry import logs, metrics

STAGES = ("decode", "fetch")
"""At which a refresh can end in the dead letter queue."""
# How long the others wait when nothing but retries, whose time has not come, is left.
IDLE_PAUSE_S = 0.1

_log = logs.get(__name__)


class Message(NamedTuple):
    """A record to produce. `topic` is the name in topics.yaml; the partition follows from `key`."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Served(NamedTuple):
    """What to produce. With `hold_back_s` nothing is committed and the batch comes again."""

    messages: list[Message]
    hold_back_s: float | None


class Source(NamedTuple):
    """Where refreshes come from: the topic's name on the cluster and its UUID in Kafka."""

    topic: str
    topic_id: str


class Serving:
    """Serves batches one at a time, in the event loop of its fetches."""

    def __init__(
        self, source: Source, settings: UserServiceSettings, fetching: Fetching | None
    ) -> None:
        self._source = source
        self._settings = settings
        self._fetching = fetching
        # Of a batch that was held back: what was fetched for it, and since when users fail.
        self._fetched: dict[str, tuple[int, Account]] = {}
        self._began: dict[str, float] = {}
        self._held_back = 0

    async def serve(self, refreshes: Iterable[Pending]) -> Served:
        """Serve a batch; takes at most a few seconds more than fetching.BUDGET_S."""
        batch = plan(refreshes)
        messages = [
            self._user(w, w.given, Account(w.given.refresh.state, None))
            for w in batch
            if w.given is not None and w.given.refresh.state is not None
        ]
        fetches = [w for w in batch if w.fetch is not None]
        if self._fetching is None:
            messages += [
                self._dead(w, "user_service_not_configured", "no base_url") for w in fetches
            ]
            return Served(messages, None)
        answers = await self._answers(self._fetching, fetches)
        return self._decide(self._fetching, messages, fetches, answers)

    async def _answers(
        self, fetching: Fetching, fetches: list[Wanted]
    ) -> dict[str, Account | Failure | None]:
        now_ms = times.now_ms()
        fresh = [w for w in fetches if not w.retry and not self._remembered(w)]
        for w in fresh:
            fetching.begin(w.user_id, _order(w), attempts=self._settings.attempts)
        for w in fetches:
            # Retries run beside the batches: whoever fails slowly keeps nobody waiting.
            if w.retry and w.not_before_ms <= now_ms and not self._remembered(w):
                fetching.begin(w.user_id, _order(w), attempts=1)
        await fetching.settle([w.user_id for w in fresh])
        answers: dict[str, Account | Failure | None] = {}
        for w in fetches:
            if self._remembered(w):
                answers[w.user_id] = self._fetched[w.user_id][1]
            else:
                answers[w.user_id] = fetching.take(w.user_id, _order(w))
        return answers

    def _decide(
        self,
        fetching: Fetching,
        messages: list[Message],
        fetches: list[Wanted],
        answers: Mapping[str, Account | Failure | None],
    ) -> Served:
        retries: list[Message] = []
        unserved: list[tuple[Wanted, Failure | None]] = []
        waiting = 0
        for w in fetches:
            answer = answers[w.user_id]
            if isinstance(answer, Account):
                messages.append(self._user(w, w.fetch, answer))
            elif w.retry and answer is None:
                waiting += 1
                retries.append(self._behind(w, None))
            elif w.retry or self._others_answered(fetching, w, answer):
                retries.append(self._give_up_or_behind(fetching, w, answer))
            else:
                unserved.append((w, answer))
        if unserved:
            return Served(messages, self._hold_back(fetching, fetches, answers, unserved))
        self._served()
        if waiting and waiting == len(retries) and not messages:
            return Served([], self._until_due(fetches))
        return Served(messages + retries, None)

    def _others_answered(self, fetching: Fetching, w: Wanted, failure: Failure | None) -> bool:
        """Whether somebody was answered since this user's fetch began: it is the user's fault."""
        began = fetching.began(w.user_id) if failure is None else failure.began
        began = min(began, self._began.get(w.user_id, began))
        return fetching.last_success > began

    def _hold_back(
        self,
        fetching: Fetching,
        fetches: list[Wanted],
        answers: Mapping[str, Account | Failure | None],
        unserved: list[tuple[Wanted, Failure | None]],
    ) -> float:
        """Remember what this attempt brought; the wait before the next one, in seconds."""
        self._fetched = {
            w.user_id: (_order(w), answer)
            for w in fetches
            if isinstance(answer := answers[w.user_id], Account)
        }
        began = {w.user_id: f.began for w, f in unserved if f is not None}
        self._began = {user: min(at, self._began.get(user, at)) for user, at in began.items()}
        fetching.forget([w.user_id for w, failure in unserved if failure is None])
        failures = [failure.error for _, failure in unserved if failure is not None]
        self._held_back += 1
        if self._held_back == 1:
            reason = str(failures[0]) if failures else "not answered in time"
            _log.warning("user service does not answer", users=len(unserved), reason=reason)
        exponent = min(self._held_back - 1, 20)
        wait_ms: float = min(
            self._settings.backoff_ms * 2.0**exponent, self._settings.backoff_max_ms
        )
        asked_s = max((error.retry_after_s or 0.0 for error in failures), default=0.0)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        return max(wait_ms / 1000 * jitter, min(asked_s, RETRY_AFTER_MAX_S))

    def _served(self) -> None:
        if self._held_back:
            _log.info("user service answers again", attempts=self._held_back)
        self._held_back = 0
        self._fetched = {}
        self._began = {}

    def _until_due(self, fetches: list[Wanted]) -> float:
        due_ms = min(w.not_before_ms for w in fetches) - times.now_ms()
        return min(max(due_ms / 1000, IDLE_PAUSE_S / 10), IDLE_PAUSE_S)

    def _give_up_or_behind(self, fetching: Fetching, w: Wanted, failure: Failure | None) -> Message:
        first_failed_at_ms = w.first_failed_at_ms
        failing_s = (
            0.0 if first_failed_at_ms is None else (times.now_ms() - first_failed_at_ms) / 1000
        )
        # Being asked to slow down is no fault of the user's, and nobody is given up while the
        # service answers nobody.
        at_fault = (
            failure is not None
            and failure.error.outcome != "rate_limited"
            and fetching.last_success > failure.began - self._settings.backoff_max_ms / 1000
        )
        if failure is None or not at_fault or failing_s < self._settings.give_up_after_s:
            return self._behind(w, failure)
        metrics.USER_SERVICE_GIVEN_UP.inc()
        _log.error("user given up", user_id=w.user_id, reason=str(failure.error))
        return self._dead(w, failure.error.outcome, str(failure.error))

    def _behind(self, w: Wanted, failure: Failure | None) -> Message:
        retry_after_s = None if failure is None else failure.error.retry_after_s
        value = behind(
            w,
            times.now_ms(),
            self._settings,
            tried=not w.retry or failure is not None,
            retry_after_s=min(retry_after_s or 0.0, RETRY_AFTER_MAX_S),
        )
        return Message(REFRESHES_TOPIC, w.user_id.encode(), value, [])

    def _user(self, w: Wanted, pending: Pending | None, account: Account) -> Message:
        assert pending is not None
        refresh = (self._source.topic_id, pending.partition, pending.order)
        value = user_record(w.user_id, account.state, account.version, refresh)
        return Message(
            SHARDS_TOPIC, w.user_id.encode(), encode(value), [(HEADER_TYPE, USER.encode())]
        )

    def _dead(self, w: Wanted, exception: str, message: str) -> Message:
        assert w.fetch is not None
        return dead(self._source.topic, w.fetch.record, "fetch", exception, message)

    def _remembered(self, w: Wanted) -> bool:
        order, _ = self._fetched.get(w.user_id, (-1, None))
        return order >= _order(w)


def dead(topic: str, record: RefreshRecord, stage: str, exception: str, message: str) -> Message:
    """A refresh for the dead letter queue. `topic` is the name on the cluster."""
    metrics.DLQ_RECORDS.labels("users", stage).inc()
    headers = dlq.headers(
        record.headers,
        (topic, record.partition, record.offset),
        stage=stage,
        exception=exception,
        message=message,
    )
    return Message(DLQ_TOPIC, record.key, record.value, headers)


def _order(w: Wanted) -> int:
    assert w.fetch is not None
    return w.fetch.order
