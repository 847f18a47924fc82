"""/v1/segments: definitions, read and changed."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from segments.contracts.commands import DESCRIPTION_MAX_LENGTH
from segments.contracts.names import SegmentName
from segments.contracts.partitioning import partition_of
from segments.http import answers, requests
from segments.http.commanding import command_id, perform, position_header
from segments.http.problems import Problem
from segments.http.services import SERVICES, Services
from segments.http.waiting import Position

routes = web.RouteTableDef()


class NewSegment(BaseModel):
    """Body of POST /v1/segments."""

    model_config = ConfigDict(extra="forbid")

    segment: SegmentName
    description: str | None = Field(None, max_length=DESCRIPTION_MAX_LENGTH)


class SegmentUpdate(BaseModel):
    """Body of PATCH /v1/segments/{segment}; what is absent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(None, max_length=DESCRIPTION_MAX_LENGTH)


@routes.post("/v1/segments")
async def create(request: web.Request) -> web.Response:
    """Make a segment: 201, or 409 when the name is in use."""
    requests.only(request)
    raw = await requests.checked_body(request, NewSegment)
    name: str = raw["segment"]
    command = {"type": "create_segment", "id": command_id(request), **raw}
    result = await perform(request, name, command)
    if isinstance(result, web.Response):
        return result
    return _shown(request, name, result, status=201)


@routes.patch("/v1/segments/{segment}")
async def update(request: web.Request) -> web.Response:
    """Change what is said about a segment."""
    name = requests.segment(request)
    requests.only(request)
    raw = await requests.checked_body(request, SegmentUpdate)
    command = {"type": "update_segment", "id": command_id(request), "segment": name, **raw}
    result = await perform(request, name, command, addressed=name)
    if isinstance(result, web.Response):
        return result
    return _shown(request, name, result, status=200)


def _shown(request: web.Request, name: str, result: dict[str, Any], status: int) -> web.Response:
    """The definition as it is after the command, or 202 when the view does not show it yet."""
    services = request.app[SERVICES]
    headers = position_header(result)
    shown = services.waiting.is_fresh(Position.parse(result["position"]))
    stored = services.view.definition(name)
    if stored is None or not shown:
        # Decided, but not visible here within the wait.
        headers["Location"] = requests.location("/v1/commands", result["command_id"])
        return requests.json_response(result, status=202, headers=headers)
    headers["Location"] = requests.location("/v1/segments", name)
    return requests.json_response(
        answers.definition(services, stored), status=status, headers=headers
    )


@routes.delete("/v1/segments/{segment}")
async def delete(request: web.Request) -> web.Response:
    """End a segment and every membership in it."""
    name = requests.segment(request)
    requests.only(request)
    command = {"type": "delete_segment", "id": command_id(request), "segment": name}
    result = await perform(request, name, command, addressed=name)
    if isinstance(result, web.Response):
        return result
    return requests.json_response(result, headers=position_header(result))


@routes.get("/v1/segments/{segment}")
async def show(request: web.Request) -> web.Response:
    """A definition and the size of its segment."""
    name = requests.segment(request)
    requests.only(request)
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    headers = services.freshness(_home(services, name))
    stored = services.view.definition(name)
    if stored is None or stored["state"] == "deleted":
        raise Problem(404, "segment_unknown", "no such segment", headers=headers)
    return requests.json_response(answers.definition(services, stored), headers=headers)


def _home(services: Services, name: str) -> int:
    return partition_of(name, services.settings.partitions)


@routes.get("/v1/segments")
async def list_all(request: web.Request) -> web.Response:
    """Every segment in use, by name."""
    requests.only(request, "limit", "cursor")
    limit = requests.limit(request)
    place = requests.cursor(request, str)
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    view = services.view
    headers = services.freshness_of(services.kept_partitions(), view.progress)
    # A walk over thousands of deleted ones, at worst: not in the event loop.
    found = await asyncio.get_running_loop().run_in_executor(
        services.pool, view.definitions, place[0] if place else "", limit + 1
    )
    items = [answers.definition(services, stored) for stored in found[:limit]]
    following = [items[-1]["segment"]] if len(found) > limit else None
    return requests.page(request, items, following, headers)
