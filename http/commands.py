"""/v1/commands: many commands at once, and what became of one."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4, uuid5

import orjson
from aiohttp import web
from pydantic import ValidationError

from segments.contracts.commands import COMMANDS, key_of
from segments.http import requests
from segments.http.commanding import IDEMPOTENCY_KEY, command_id
from segments.http.problems import Problem, invalid
from segments.http.services import SERVICES, not_ready
from segments.http.writing import COMMANDS as TOPIC
from segments.http.writing import CommandWriter

MAX_COMMANDS = 10_000
DELIVERY_WAIT_S = 30.0
_SLICE = 250
_ERRORS_NAMED = 20
_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
# The namespace of ids of lines without one; fixed for ever, so that a repetition has the same.
_LINE_IDS = UUID("c1f2a0a4-4c62-5d3a-9a53-7a2f5c0be1d7")

routes = web.RouteTableDef()


@routes.post("/v1/commands")
async def accept(request: web.Request) -> web.Response:
    """Take up to 10,000 commands, one a line: all of them, or none when one is wrong."""
    requests.only(request)
    requests.require_content_type(request, "application/json", *_NDJSON)
    services = request.app[SERVICES]
    raw = await requests.read(request, services.settings.http.max_batch_bytes)
    lines = [raw] if request.content_type == "application/json" else raw.split(b"\n")
    base = command_id(request) if IDEMPOTENCY_KEY in request.headers else None
    commands = await _parsed([line for line in lines if line.strip()], base)
    await _deliver(services.writer, commands)
    ids = [command["id"] for _, command in commands]
    for accepted_id in ids:
        services.writer.remember(accepted_id)
    return requests.json_response({"accepted": len(ids), "command_ids": ids}, status=202)


async def _parsed(lines: list[bytes], base: str | None) -> list[tuple[str, dict[str, Any]]]:
    """(key, command) of each line. Problem 422 naming the lines that are wrong."""
    if not 1 <= len(lines) <= MAX_COMMANDS:
        raise Problem(422, "invalid", f"1 to {MAX_COMMANDS} commands, one a line")
    commands: list[tuple[str, dict[str, Any]]] = []
    errors: list[dict[str, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            commands.append(_command(line, number, base))
        except orjson.JSONDecodeError as error:
            errors.append({"line": str(number), "field": "", "detail": f"not JSON: {error}"})
        except ValidationError as error:
            named = invalid(error).errors or []
            errors.extend({"line": str(number), **each} for each in named)
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


async def _deliver(writer: CommandWriter, commands: list[tuple[str, dict[str, Any]]]) -> None:
    deliveries = []
    for number, (key, command) in enumerate(commands, 1):
        deliveries.append(writer.send(TOPIC, key, command))
        if number % _SLICE == 0:
            await asyncio.sleep(0)
    for delivery in deliveries:
        await writer.delivered(delivery, DELIVERY_WAIT_S)


@routes.get("/v1/commands/{command_id}")
async def show(request: web.Request) -> web.Response:
    """The result of a command, waited for with `Prefer: wait`; `pending` when it is on its way."""
    requests.only(request)
    wanted_id = request.match_info["command_id"]
    services = request.app[SERVICES]
    if not services.view.complete:
        raise not_ready()
    result = services.view.result(wanted_id)
    if result is None and "Prefer" in request.headers:
        result = await _awaited(request, wanted_id)
    if result is not None:
        return requests.json_response(result)
    if services.writer.accepted(wanted_id):
        return requests.json_response({"command_id": wanted_id, "status": "pending"})
    raise Problem(
        404, "command_unknown", "no result of such a command: not yet, no longer, or never"
    )


async def _awaited(request: web.Request, wanted_id: str) -> dict[str, Any] | None:
    services = request.app[SERVICES]
    future = services.waiting.expect_result(wanted_id)
    try:
        # It may have come between the first look and the wait.
        if (result := services.view.result(wanted_id)) is not None:
            return result
        return await asyncio.wait_for(future, requests.preference(request).wait_s)
    except TimeoutError:
        return None
    finally:
        services.waiting.forget(wanted_id, future)
