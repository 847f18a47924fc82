"""Writes: a key made once for the call, so that no attempt of it counts twice, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from segments.client import errors
from segments.client.call import Call, Core, document, model, path
from segments.client.models import Result
from segments.client.sansio import Pause, Reply, Steps

KEY = "Idempotency-Key"
_POLL_S = 0.05
_POLL_MAX_S = 1.0


class Decided(NamedTuple):
    """What a write came to. `whole`: the first answer was not only the result of the command."""

    call: Call
    reply: Reply
    told: dict[str, Any]
    whole: bool


def perform(
    core: Core,
    method: str,
    target: str,
    json: Any,
    *,
    key: str | None,
    timeout_s: float | None,
    addressed: bool = True,
) -> Steps[Decided]:
    """Write, and follow the command until it is decided.

    ProblemError when it was refused, PendingError when it is not decided in time. `addressed`: the
    write is about one segment.
    """
    key = key or str(uuid4())
    call = core.call(timeout_s)
    try:
        reply = yield from call.send(method, target, json=json, headers={KEY: key}, waits=True)
        told = document(reply)
        whole = reply.status != 202
        if told.get("status") == "pending":
            told = yield from awaited(call, str(told["command_id"]))
        if not whole and told.get("status") == "rejected":
            raise errors.rejection(told, addressed=addressed)
    except errors.SegmentsError as error:
        if error.command_id is None:
            error.command_id = key
        raise
    core.note(told.get("position"))
    return Decided(call, reply, told, whole)


def awaited(call: Call, command_id: str) -> Steps[dict[str, Any]]:
    """The result of a command that was accepted. PendingError when it does not come in time."""
    pause_s = _POLL_S
    while True:
        try:
            told = yield from asked(call, command_id)
        except errors.UnreachableError as error:
            if call.left_s > 0:
                raise
            # It is accepted all the same: only the time of the call was over.
            raise errors.PendingError(command_id) from error
        if told is not None and told.get("status") != "pending":
            return told
        if call.left_s <= pause_s:
            raise errors.PendingError(command_id)
        yield Pause(pause_s)
        pause_s = min(2 * pause_s, _POLL_MAX_S)


def asked(call: Call, command_id: str) -> Steps[dict[str, Any] | None]:
    """What is known of a command after a wait; None for one that the sidecar has not heard of.

    Another sidecar than the one that accepted it knows nothing before there is a result.
    """
    target = path("v1", "commands", command_id)
    reply = yield from call.send("GET", target, waits=True, accepted=frozenset({404}))
    if reply.status == 404:
        problem = errors.problem(reply.status, reply.body)
        if problem.code != "command_unknown":
            raise problem
        return None
    return document(reply)


def result(told: Mapping[str, Any]) -> Result:
    """A result as a model."""
    return model(Result, told)
