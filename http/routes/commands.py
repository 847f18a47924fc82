"""/v1/commands: many commands at once, and what became of one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4, uuid5

import orjson
from aiohttp import web
from pydantic import ValidationError

from segments.contracts.commands import COMMAND_TYPES, COMMANDS, Command, key_of
from segments.contracts.documents import PreviewResult, Result
from segments.contracts.responses.users_and_segments import Accepted, Pending
from segments.http.auth.roles import Role, actor
from segments.http.context import SERVICES, Services, not_ready
from segments.http.problems import Problem, invalid
from segments.http.routes import requests
from segments.http.routes.execute import command_id, join_trace
from segments.http.routing import body
from segments.http.routing.headers import IDEMPOTENCY_KEY, PREFER
from segments.http.routing.operation import (
    JSON,
    NDJSON,
    NDJSON_NAMES,
    NOT_READY,
    WRITES,
    Answer,
    RawBody,
)
from segments.http.routing.routes import Routes
from segments.http.write.producer import COMMANDS as TOPIC
from segments.http.write.producer import CommandWriter

MAX_COMMANDS = 10_000
DELIVERY_WAIT_S = 30.0
_LINES_MAX = 2 * MAX_COMMANDS
_SLICE = 250
_ERRORS_NAMED = 20
# The namespace of ids of lines without one; fixed for ever, so that a repetition has the same.
_LINE_IDS = UUID("c1f2a0a4-4c62-5d3a-9a53-7a2f5c0be1d7")

_EXAMPLE = {"type": "create_segment", "segment": "gold"}

routes = Routes("commands")


@routes.post(
    "/v1/commands",
    role=Role.ADMIN,
    body=RawBody(
        {JSON: Command, NDJSON: "A command a line."},
        aliases=NDJSON_NAMES,
        examples={JSON: _EXAMPLE, NDJSON: orjson.dumps(_EXAMPLE).decode() + "\n"},
    ),
    headers=(IDEMPOTENCY_KEY,),
    answers={202: Answer("Kafka has all of them.", Accepted)},
    problems=((408, "body_timeout"), (413, "body_too_large"), (422, "invalid"), *WRITES),
)
async def accept(request: web.Request) -> web.Response:
    """Take up to 10,000 commands, one a line: all of them, or none when one is wrong.

    Lines without `id` get one; with `Idempotency-Key` the same body again gets the same ids.
    """
    services = request.app[SERVICES]
    http = services.settings.http
    base = command_id(request) if IDEMPOTENCY_KEY in request.headers else None
    if request.content_type == JSON:
        lines = [await body.read(request, http.max_body_bytes)]
    else:
        lines = _lines(await body.read(request, http.max_batch_bytes), http.max_body_bytes)
    commands = await _parsed(lines, base)
    if (who := actor(request)) is not None:
        # Whoever they say is behind them: it is the one who sends them.
        for _, command in commands:
            command["actor"] = who
    services.writer.require_room(len(commands))
    join_trace(request)
    await _deliver(services.writer, commands)
    ids = [command["id"] for _, command in commands]
    return requests.json_response({"accepted": len(ids), "command_ids": ids}, status=202)


def _lines(raw: bytes, max_bytes: int) -> list[bytes]:
    """The lines that are not empty. Problem 413 or 422 for too long a line, or far too many."""
    if raw.count(b"\n") > _LINES_MAX:
        raise _wrong_number()
    lines = [line for line in raw.split(b"\n") if line.strip()]
    if len(raw) > max_bytes and max(map(len, lines), default=0) > max_bytes:
        raise Problem(413, "body_too_large", f"a line has at most {max_bytes} bytes")
    return lines


def _wrong_number() -> Problem:
    return Problem(422, "invalid", f"1 to {MAX_COMMANDS} commands, one a line")


async def _parsed(lines: list[bytes], base: str | None) -> list[tuple[str, dict[str, Any]]]:
    """(key, command) of each line. Problem 422 naming the lines that are wrong."""
    if not 1 <= len(lines) <= MAX_COMMANDS:
        raise _wrong_number()
    commands: list[tuple[str, dict[str, Any]]] = []
    errors: list[dict[str, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            commands.append(_command(line, number, base))
        except orjson.JSONDecodeError as error:
            errors.append({"line": str(number), "field": "", "detail": f"not JSON: {error}"})
        except ValidationError as error:
            errors.extend({"line": str(number), **each} for each in _named(error))
        if len(errors) >= _ERRORS_NAMED:
            break
        if number % _SLICE == 0:
            await asyncio.sleep(0)
    if errors:
        raise Problem(422, "invalid", "no command was taken", errors=errors[:_ERRORS_NAMED])
    return commands


def _command(line: bytes, number: int, base: str | None) -> tuple[str, dict[str, Any]]:
    document = orjson.loads(line)
    command = COMMANDS.validate_python(document)
    fresh = str(uuid4()) if base is None else str(uuid5(_LINE_IDS, f"{number}:{base}"))
    document["id"] = command.id or fresh
    return key_of(command, document["id"]), document


def _named(error: ValidationError) -> Iterator[dict[str, str]]:
    """The wrong fields of a command; the first step of their place is its type, and no field."""
    for each in invalid(error).errors or []:
        kind, _, rest = each["field"].partition(".")
        yield {**each, "field": rest if kind in COMMAND_TYPES else each["field"]}


async def _deliver(writer: CommandWriter, commands: list[tuple[str, dict[str, Any]]]) -> None:
    """Return when Kafka has all of them. Problem 503 otherwise."""
    deliveries: list[asyncio.Future[None]] = []
    try:
        for number, (key, command) in enumerate(commands, 1):
            # Before it is sent: its result can come sooner than the answer here.
            writer.remember(command["id"])
            deliveries.append(writer.send(TOPIC, key, command))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        await writer.delivered(*deliveries, timeout_s=DELIVERY_WAIT_S)
    except Problem:
        for _, command in commands:
            writer.forget(command["id"])
        raise
    finally:
        for delivery in deliveries:
            delivery.cancel()


@routes.get(
    "/v1/commands/{command_id}",
    role=Role.ANALYST,
    headers=(PREFER,),
    answers={200: Answer("The result, or `pending`.", PreviewResult | Result | Pending)},
    problems=((404, "command_unknown"), *NOT_READY, (503, "busy")),
)
async def show(request: web.Request) -> web.Response:
    """The result of a command, waited for with `Prefer: wait`; `pending` when it is on its way.

    A rejected command is a 200 here: `status` says it. Without `Prefer` nothing is waited for.
    """
    wanted_id = request.match_info["command_id"]
    services = request.app[SERVICES]
    if not services.view.complete:
        raise not_ready()
    result = services.view.result(wanted_id)
    if result is None and "Prefer" in request.headers:
        wanted = requests.preference(request)
        if not wanted.respond_async:
            result = await _awaited(services, wanted_id, wanted.wait_s)
    if result is not None:
        return requests.json_response(result)
    if services.writer.accepted(wanted_id):
        return requests.json_response({"command_id": wanted_id, "status": "pending"})
    raise Problem(
        404, "command_unknown", "no result of such a command: not yet, no longer, or never"
    )


async def _awaited(services: Services, wanted_id: str, wait_s: float) -> dict[str, Any] | None:
    future = services.waiting.expect_result(wanted_id)
    try:
        # It may have come between the first look and the wait.
        if (result := services.view.result(wanted_id)) is not None:
            return result
        return await asyncio.wait_for(future, wait_s)
    except TimeoutError:
        return None
    finally:
        services.waiting.forget(wanted_id, future)
