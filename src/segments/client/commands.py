"""Commands as they are, many at once, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

import orjson

from segments.client import errors, writes
from segments.client.call import ANSWER_TIMEOUT_S, Core, parsed
from segments.client.models import Accepted, Result
from segments.client.sansio import Freshness, Page, Pause, Steps, Walk

COMMANDS_MAX = 10_000
"""Commands that one request may carry."""
_POLL_S = 0.2


def send_commands(
    core: Core,
    commands: Iterable[Mapping[str, Any]],
    *,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[Accepted]:
    """Send 1-10,000 commands (docs/topics.md) at once: all are taken, or none. Their ids.

    A command without `id` is given one that follows from the key, so that no attempt counts twice.
    What became of each: `results`.
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
    """What became of a command, waited for as long as `timeout_s`; a rejection is a result here.

    PendingError while it is on its way; NotFoundError `command_unknown` when it is not known.
    """
    call = core.call(timeout_s, ANSWER_TIMEOUT_S)
    while True:
        told = yield from writes.asked(call, command_id)
        if told is not None and told.get("status") != "pending":
            core.note(told.get("position"))
            return writes.result(told)
        if call.left_s <= _POLL_S:
            break
        yield Pause(_POLL_S)
    if told is None:
        raise errors.NotFoundError(404, "command_unknown", f"nothing is known of {command_id}")
    raise errors.PendingError(command_id)


def results(
    core: Core, command_ids: Iterable[str], *, timeout_s: float | None = None
) -> Walk[Result]:
    """What became of commands that were accepted, in the order given.

    `timeout_s` is for all of them; PendingError, naming the first that is missing, when it is over.
    """
    call = core.call(timeout_s)

    def steps() -> Steps[None]:
        for command_id in command_ids:
            told = yield from writes.awaited(call, command_id)
            core.note(told.get("position"))
            yield Page([writes.result(told)], Freshness())

    return Walk(steps())
