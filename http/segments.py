"""/v1/segments: definitions, read and changed."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from segments.contracts.auto import Auto
from segments.contracts.commands import NewSegmentBody, SegmentBody, UpdateSegment
from segments.contracts.partitioning import partition_of
from segments.http import answers, requests
from segments.http.commanding import command_id, perform, position_header
from segments.http.problems import Problem
from segments.http.services import SERVICES, Services
from segments.http.waiting import Position

routes = web.RouteTableDef()


class PreviewBody(BaseModel):
    """Body of POST /v1/segments/preview."""

    model_config = ConfigDict(extra="forbid")

    auto: Auto


@routes.post("/v1/segments")
async def create(request: web.Request) -> web.Response:
    """Make a segment: 201, or 409 when the name is in use."""
    requests.only(request)
    raw = await requests.checked_body(request, NewSegmentBody)
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
    raw = await requests.checked_body(request, SegmentBody)
    command = {"type": "update_segment", "id": command_id(request), "segment": name, **raw}
    requests.as_model(command, UpdateSegment)
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


@routes.post("/v1/segments/preview")
async def preview(request: web.Request) -> web.Response:
    """How many users a rule lets through now, and how many it would choose; changes nothing."""
    requests.only(request)
    raw = await requests.checked_body(request, PreviewBody)
    command = {"type": "preview_segment", "id": command_id(request), **raw}
    result = await perform(request, command["id"], command)
    if isinstance(result, web.Response):
        return result
    return requests.json_response(result["preview"], headers=position_header(result))


@routes.delete("/v1/segments/{segment}")
async def delete(request: web.Request) -> web.Response:
    """End a segment and every membership in it.

    `referenced_by` names the segments whose filters name this one: from now on it lets nobody
    through their `include`, and keeps nobody out by their `exclude`.
    """
    name = requests.segment(request)
    requests.only(request)
    command = {"type": "delete_segment", "id": command_id(request), "segment": name}
    result = await perform(request, name, command, addressed=name)
    if isinstance(result, web.Response):
        return result
    referenced_by = request.app[SERVICES].view.referring_to(name)
    return requests.json_response(
        {**result, "referenced_by": referenced_by}, headers=position_header(result)
    )


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
