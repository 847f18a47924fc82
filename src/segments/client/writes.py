"""Writes: an idempotency key per call, so that retries take effect only once, and the result."""

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


class DecidedWrite(NamedTuple):
    """A decided write. `has_resource`: the response has the resource, not only the result."""

    call: Call
    reply: Reply
    body: dict[str, Any]
    has_resource: bool


def perform(
    core: Core,
    method: str,
    target: str,
    json: Any,
    *,
    key: str | None,
    timeout_s: float | None,
    names_segment: bool = True,
) -> Steps[DecidedWrite]:
    """Send a write and wait until its command is decided.

    ProblemError if it is rejected, PendingError if it is not decided in time. `names_segment`: the
    URL of the write names a segment.
    """
    key = key or str(uuid4())
    call = core.call(timeout_s)
    try:
        reply = yield from call.send(method, target, json=json, headers={KEY: key}, waits=True)
        body = document(reply)
        has_resource = reply.status != 202
        if body.get("status") == "pending":
            body = yield from wait_for_result(call, str(body["command_id"]))
        if not has_resource and body.get("status") == "rejected":
            raise errors.rejection(body, names_segment=names_segment)
    except errors.SegmentsError as error:
        if error.command_id is None:
            error.command_id = key
        raise
    core.note(body.get("position"))
    return DecidedWrite(call, reply, body, has_resource)


def wait_for_result(call: Call, command_id: str) -> Steps[dict[str, Any]]:
    """Poll the result of an accepted command. PendingError if it is not decided in time."""
    pause_s = _POLL_S
    while True:
        try:
            body = yield from fetch_result(call, command_id)
        except errors.UnreachableError as error:
            if call.left_s > 0:
                raise
            # The command is accepted; only the time of the call ran out.
            raise errors.PendingError(command_id) from error
        if body is not None and body.get("status") != "pending":
            return body
        if call.left_s <= pause_s:
            raise errors.PendingError(command_id)
        yield Pause(pause_s)
        pause_s = min(2 * pause_s, _POLL_MAX_S)


def fetch_result(call: Call, command_id: str) -> Steps[dict[str, Any] | None]:
    """Fetch a command's result or `pending`, waiting on the server; None if it is unknown.

    A sidecar other than the one that accepted the command does not know it before its result.
    """
    target = path("v1", "commands", command_id)
    reply = yield from call.send("GET", target, waits=True, accepted=frozenset({404}))
    if reply.status == 404:
        problem = errors.problem(reply.status, reply.body)
        if problem.code != "command_unknown":
            raise problem
        return None
    return document(reply)


def result(body: Mapping[str, Any]) -> Result:
    """Validate a result."""
    return model(Result, body)
