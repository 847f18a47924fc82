"""/v1/commands: batches of commands, and the result of one command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4, uuid5

import orjson
from aiohttp import web
from pydantic import ValidationError

from segments.contracts.commands import COMMAND_ADAPTER, COMMAND_TYPES, Command
from segments.contracts.documents import PreviewResult, Result
from segments.contracts.messages import JSON_CONTENT_TYPE
from segments.contracts.responses.users_and_segments import Accepted, Pending
from segments.contracts.topics import COMMANDS_TOPIC
from segments.http.auth.roles import Role, actor
from segments.http.context import SERVICES, Services, not_ready
from segments.http.problems import Problem, invalid
from segments.http.routes import requests
from segments.http.routes.execute import command_id, join_trace
from segments.http.routing import body
from segments.http.routing.headers import IDEMPOTENCY_KEY, PREFER
from segments.http.routing.operation import (
    NDJSON_TYPE,
    NDJSON_TYPES,
    NOT_READY_PROBLEMS,
    WRITE_PROBLEMS,
    RawBody,
    Response,
)
from segments.http.routing.routes import Routes
from segments.http.write.producer import CommandProducer

MAX_COMMANDS = 10_000
DELIVERY_WAIT_S = 30.0
_LINES_MAX = 2 * MAX_COMMANDS
_SLICE = 250
_ERRORS_MAX = 20
# Namespace of the ids derived for lines without one. Never change it: a repeated request must get
# the same ids.
_LINE_IDS = UUID("c1f2a0a4-4c62-5d3a-9a53-7a2f5c0be1d7")

_EXAMPLE = {"type": "create_segment", "segment": "gold"}

routes = Routes("commands")


@routes.post(
    "/v1/commands",
    role=Role.ADMIN,
    body=RawBody(
        {JSON_CONTENT_TYPE: Command, NDJSON_TYPE: "One command per line."},
        aliases=NDJSON_TYPES,
        examples={
            JSON_CONTENT_TYPE: _EXAMPLE,
            NDJSON_TYPE: orjson.dumps(_EXAMPLE).decode() + "\n",
        },
    ),
    headers=(IDEMPOTENCY_KEY,),
    responses={202: Response("Kafka has accepted all commands.", Accepted)},
    problems=((408, "body_timeout"), (413, "body_too_large"), (422, "invalid"), *WRITE_PROBLEMS),
)
async def accept(request: web.Request) -> web.Response:
    """Accept up to 10,000 commands, one per line: all of them, or none if one is invalid.

    Lines without `id` get one; with `Idempotency-Key`, repeating the same body gives the same ids.
    """
    services = request.app[SERVICES]
    http = services.settings.http
    batch_id = command_id(request) if IDEMPOTENCY_KEY in request.headers else None
    if request.content_type == JSON_CONTENT_TYPE:
        lines = [await body.read(request, http.max_body_bytes)]
    else:
        lines = _lines(await body.read(request, http.max_batch_bytes), http.max_body_bytes)
    commands = await _parse(lines, batch_id)
    if (name := actor(request)) is not None:
        # Overrides the actor in the commands: it is the authenticated client.
        for _, command in commands:
            command["actor"] = name
    services.producer.require_room(len(commands))
    join_trace(request)
    await _deliver(services.producer, commands)
    ids = [command["id"] for _, command in commands]
    return requests.json_response({"accepted": len(ids), "command_ids": ids}, status=202)


def _lines(raw: bytes, max_bytes: int) -> list[bytes]:
    """The non-empty lines. Problem 413 if a line is too long, 422 if there are far too many."""
    if raw.count(b"\n") > _LINES_MAX:
        raise _invalid_count()
    lines = [line for line in raw.split(b"\n") if line.strip()]
    if len(raw) > max_bytes and max(map(len, lines), default=0) > max_bytes:
        raise Problem(413, "body_too_large", f"a line has at most {max_bytes} bytes")
    return lines


def _invalid_count() -> Problem:
    return Problem(422, "invalid", f"1 to {MAX_COMMANDS} commands, one per line")


async def _parse(lines: list[bytes], batch_id: str | None) -> list[tuple[str, dict[str, Any]]]:
    """(key, command) of each line. Problem 422 with the invalid lines."""
    if not 1 <= len(lines) <= MAX_COMMANDS:
        raise _invalid_count()
    commands: list[tuple[str, dict[str, Any]]] = []
    errors: list[dict[str, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            commands.append(_command(line, number, batch_id))
        except orjson.JSONDecodeError as error:
            errors.append({"line": str(number), "field": "", "detail": f"not JSON: {error}"})
        except ValidationError as error:
            errors.extend({"line": str(number), **each} for each in _field_errors(error))
        if len(errors) >= _ERRORS_MAX:
            break
        if number % _SLICE == 0:
            await asyncio.sleep(0)
    if errors:
        raise Problem(422, "invalid", "no command was accepted", errors=errors[:_ERRORS_MAX])
    return commands


def _command(line: bytes, number: int, batch_id: str | None) -> tuple[str, dict[str, Any]]:
    document = orjson.loads(line)
    command = COMMAND_ADAPTER.validate_python(document)
    fresh = str(uuid4()) if batch_id is None else str(uuid5(_LINE_IDS, f"{number}:{batch_id}"))
    document["id"] = command.id or fresh
    return command.routing_key(document["id"]), document


def _field_errors(error: ValidationError) -> Iterator[dict[str, str]]:
    """The invalid fields of a command, without its type, which pydantic puts first."""
    for entry in invalid(error).errors or []:
        first, _, rest = entry["field"].partition(".")
        yield {**entry, "field": rest if first in COMMAND_TYPES else entry["field"]}


async def _deliver(producer: CommandProducer, commands: list[tuple[str, dict[str, Any]]]) -> None:
    """Produce the commands and wait until Kafka has all of them. Problem 503 otherwise."""
    deliveries: list[asyncio.Future[None]] = []
    try:
        for number, (key, command) in enumerate(commands, 1):
            # Before sending: the result can arrive before the acknowledgement.
            producer.remember(command["id"])
            deliveries.append(producer.send(COMMANDS_TOPIC, key, command))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        await producer.delivered(*deliveries, timeout_s=DELIVERY_WAIT_S)
    except Problem:
        for _, command in commands:
            producer.forget(command["id"])
        raise
    finally:
        for delivery in deliveries:
            delivery.cancel()


@routes.get(
    "/v1/commands/{command_id}",
    role=Role.ANALYST,
    headers=(PREFER,),
    responses={200: Response("The result, or `pending`.", PreviewResult | Result | Pending)},
    problems=((404, "command_unknown"), *NOT_READY_PROBLEMS, (503, "busy")),
)
async def show(request: web.Request) -> web.Response:
    """The result of a command; `pending` if it was accepted and has no result yet.

    A rejected command is a 200 too: see `status`. `Prefer: wait` waits for the result.
    """
    requested_id = request.match_info["command_id"]
    services = request.app[SERVICES]
    if not services.view.complete:
        raise not_ready()
    result = services.view.result(requested_id)
    if result is None and "Prefer" in request.headers:
        prefer = requests.preference(request)
        if not prefer.respond_async:
            result = await _wait_for_result(services, requested_id, prefer.wait_s)
    if result is not None:
        return requests.json_response(result)
    if services.producer.is_pending(requested_id):
        return requests.json_response({"command_id": requested_id, "status": "pending"})
    raise Problem(404, "command_unknown", "no result of this command: not yet, no longer, or never")


async def _wait_for_result(
    services: Services, requested_id: str, wait_s: float
) -> dict[str, Any] | None:
    future = services.waiters.expect_result(requested_id)
    try:
        # It may have arrived between the first read and the wait.
        if (result := services.view.result(requested_id)) is not None:
            return result
        return await asyncio.wait_for(future, wait_s)
    except TimeoutError:
        return None
    finally:
        services.waiters.forget(requested_id, future)
