"""Executes commands: command id, wait for the result, read-your-writes, response."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from segments.contracts.names import CommandId
from segments.contracts.positions import Position
from segments.contracts.responses.users_and_segments import Pending
from segments.http.auth.roles import actor
from segments.http.context import SERVICES
from segments.http.problems import Problem, invalid
from segments.http.routes.requests import json_response, location, preference
from segments.http.routes.serializers import rejection
from segments.http.routing.headers import IDEMPOTENCY_KEY, POSITION
from segments.http.routing.operation import Response
from segments.telemetry import tracing

PENDING = Response(
    "Kafka has accepted the command; get its result at `Location`.",
    Pending,
    headers=("Location",),
)
"""The response to a write without a result within the wait."""
DECISION_S = 2.0
"""How long a decision usually takes at most once it is due."""
_COMMAND_ID: TypeAdapter[str] = TypeAdapter(CommandId)


def command_id(request: web.Request) -> str:
    """The Idempotency-Key header, or a new id. Problem 400 if the header is not a command id."""
    text = request.headers.get(IDEMPOTENCY_KEY)
    if text is None:
        return str(uuid4())
    try:
        return _COMMAND_ID.validate_python(text)
    except ValidationError as error:
        errors = invalid(error, IDEMPOTENCY_KEY).errors
        raise Problem(
            400, "invalid", f"{IDEMPOTENCY_KEY} is not a command id", errors=errors
        ) from None


def result_response(result: dict[str, Any]) -> web.Response:
    """200 with the result as its body."""
    return json_response(result, headers=position_header(result))


async def execute(
    request: web.Request,
    key: str,
    command: dict[str, Any],
    *,
    segment: str | None = None,
    respond: Callable[[dict[str, Any]], web.Response] = result_response,
) -> web.Response:
    """Send a command and respond to its result once the view shows it; 202 if that takes too long.

    `key` is the record key; `segment` is the segment in the path, if any: it is 404 if it does not
    exist. Raises Problem if the command was rejected, if its id belongs to another command, or if
    Kafka did not accept it.
    """
    services = request.app[SERVICES]
    join_trace(request)
    if (name := actor(request)) is not None:
        command = command | {"actor": name}
    prefer = preference(request)
    if prefer.respond_async:
        await services.producer.accept(key, command)
        return pending(request, command["id"])
    wait_s = prefer.wait_s
    if not prefer.explicit:
        # A command that names an unknown segment is deferred before it is decided.
        wait_s = max(wait_s, services.settings.limits.park_ms / 1000 + DECISION_S)
    result, left_s = await services.producer.write(key, command, wait_s)
    if result is None:
        return pending(request, command["id"])
    if result["status"] == "rejected":
        raise rejection(result, segment=segment)
    if ("preview" in result) != (command["type"] == "preview_segment"):
        # Results are matched by the id of their command only.
        detail = f"the id {command['id']!r} belongs to another command"
        raise Problem(422, "idempotency_key_reused", detail)
    # Read-your-writes: the client's next read here includes its write. If too many requests are
    # waiting, the client can still read with the position: the command was applied.
    with suppress(Problem):
        await services.waiters.wait_for_position(Position.parse(result["position"]), left_s)
    return respond(result)


def join_trace(request: web.Request) -> None:
    """Join the request's trace (W3C Trace Context), if it has one, for the records it produces."""
    if tracing.TRACEPARENT in request.headers:
        lines = (request.headers.getall(name, []) for name in tracing.FIELDS)
        tracing.enter(tracing.validated(*lines))


def pending(request: web.Request, accepted_id: str) -> web.Response:
    """202: Kafka has accepted the command; its result is not known yet."""
    services = request.app[SERVICES]
    if services.view.result(accepted_id) is None:
        services.producer.remember(accepted_id)
    return json_response(
        {"command_id": accepted_id, "status": "pending"},
        status=202,
        headers={"Location": location("/v1/commands", accepted_id)},
    )


def position_header(result: dict[str, Any]) -> dict[str, str]:
    """The header with the position from which reads include the command."""
    return {POSITION: result["position"]}
