"""Calls without a network: the effects they yield for given outcomes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from segments.client import AnswerError, PendingError, Retries, StaleError, UnreachableError
from segments.client import commands as command_calls
from segments.client import segments as segment_calls
from segments.client import users as user_calls
from segments.client.call import Core
from segments.client.sansio import Pause, Reply, Request, Steps, TransportFailure

USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
AT = "2026-11-24T22:17:45.625Z"
TIMED_OUT = TransportFailure("no complete response in time")


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s

    def core(self, attempts: int = 1) -> Core:
        """The configuration of a client that uses this clock."""
        return Core("http://service", None, 5.0, 10.0, Retries(attempts=attempts, clock=self))


def reply(http_status: int, **body: Any) -> Reply:
    """A response with a JSON object."""
    return Reply(http_status, {}, orjson.dumps(body))


def next_request(steps: Steps[Any], outcome: Any = None) -> Request:
    """Send an outcome and return the next request, skipping pauses."""
    effect = steps.send(outcome)
    while isinstance(effect, Pause):
        effect = steps.send(None)
    assert isinstance(effect, Request)
    return effect


def test_request_without_wait_has_the_full_timeout() -> None:
    request = next_request(command_calls.result(Clock().core(), "order-4711"))
    assert request.headers[b"Prefer"] == b"wait=0"
    assert request.timeout_s is not None
    assert request.timeout_s > 5
    assert request.read_timeout_s > 5


def test_accepted_command_is_pending_after_timeout() -> None:
    clock = Clock()
    steps = user_calls.change(clock.core(), USER, add=["beta"], idempotency_key="order-4711")
    next_request(steps)
    next_request(steps, reply(202, command_id="order-4711", status="pending"))
    clock.now_s += 6.0
    with pytest.raises(PendingError) as raised:
        steps.send(TIMED_OUT)
    assert raised.value.command_id == "order-4711"


def test_service_failure_while_polling_raises_unreachable() -> None:
    steps = user_calls.change(Clock().core(), USER, add=["beta"], idempotency_key="order-4711")
    next_request(steps)
    next_request(steps, reply(202, command_id="order-4711", status="pending"))
    with pytest.raises(UnreachableError) as raised:
        steps.send(TransportFailure("refused"))
    assert raised.value.command_id == "order-4711"


def test_stale_read_after_create_has_the_command_id() -> None:
    steps = segment_calls.create_segment(Clock().core(), "beta", idempotency_key="order-4711")
    next_request(steps)
    next_request(steps, reply(202, command_id="order-4711", status="pending"))
    decided: dict[str, Any] = {
        "command_id": "order-4711",
        "status": "applied",
        "error": None,
        "changes": [],
    }
    read = next_request(steps, reply(200, **decided, position="3:7", at=AT))
    assert read.headers[b"Segments-Min-Position"] == b"3:7"
    with pytest.raises(StaleError) as raised:
        steps.send(reply(503, code="stale", title="stale"))
    assert raised.value.command_id == "order-4711"


def test_list_of_unexpected_items_raises_answer_error() -> None:
    steps = segment_calls.segments(Clock().core()).steps
    next_request(steps)
    with pytest.raises(AnswerError, match="unexpected response"):
        steps.send(reply(200, items=["beta"], next=None))
