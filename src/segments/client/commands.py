"""Calls that send commands in bulk and return their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

import orjson

from segments.client import errors, writes
from segments.client.call import RESPONSE_TIMEOUT_S, Core, parsed
from segments.client.models import Accepted, Result
from segments.client.sansio import Freshness, ItemPage, Pause, Steps, Walk

COMMANDS_MAX = 10_000
"""Maximum number of commands per request."""
_POLL_S = 0.2


def send_commands(
    core: Core,
    commands: Iterable[Mapping[str, Any]],
    *,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[Accepted]:
    """Send 1-10,000 commands (docs/topics.md), all or none, and return their ids.

    The id of a command without one is derived from the idempotency key, so that retries take effect
    only once. `results` returns the results.
    """
    lines = [orjson.dumps(command) for command in commands]
    if not 1 <= len(lines) <= COMMANDS_MAX:
        raise errors.invalid(f"1 to {COMMANDS_MAX} commands at once")
    key = idempotency_key or str(uuid4())
    try:
        reply = yield from core.call(timeout_s).send(
            "POST",
            "/v1/commands",
            body=b"\n".join(lines) + b"\n",
            headers={"Content-Type": "application/x-ndjson", writes.KEY: key},
        )
    except errors.SegmentsError as error:
        error.command_id = error.command_id or key
        raise
    return parsed(Accepted, reply)


def result(core: Core, command_id: str, *, timeout_s: float = 0.0) -> Steps[Result]:
    """The result of a command, also if it was rejected; waits up to `timeout_s`.

    PendingError while it is not decided; NotFoundError `command_unknown` if it is not known.
    """
    call = core.call(timeout_s, RESPONSE_TIMEOUT_S)
    while True:
        found = yield from writes.fetch_result(call, command_id)
        if found is not None and found.get("status") != "pending":
            core.note(found.get("position"))
            return writes.result(found)
        if call.left_s <= _POLL_S:
            break
        yield Pause(_POLL_S)
    if found is None:
        raise errors.NotFoundError(404, "command_unknown", f"unknown command {command_id}")
    raise errors.PendingError(command_id)


def results(
    core: Core, command_ids: Iterable[str], *, timeout_s: float | None = None
) -> Walk[Result]:
    """Results of accepted commands, in the given order.

    `timeout_s` is for all of them; PendingError for the first that is not decided by then.
    """
    call = core.call(timeout_s)

    def steps() -> Steps[None]:
        for command_id in command_ids:
            found = yield from writes.wait_for_result(call, command_id)
            core.note(found.get("position"))
            yield ItemPage([writes.result(found)], Freshness())

    return Walk(steps())
