"""/v1/segments: definitions, read and changed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict

from segments.contracts.auto import Auto
from segments.contracts.commands import NewSegmentBody, SegmentBody, UpdateSegment
from segments.contracts.documents import Preview, Result
from segments.contracts.partitioning import partition_of
from segments.contracts.positions import Position
from segments.contracts.responses import users_and_segments as bodies
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services
from segments.http.problems import Problem
from segments.http.routes import requests, serializers
from segments.http.routes.execute import PENDING, command_id, execute, position_header
from segments.http.routing.body import as_model
from segments.http.routing.headers import (
    FRESH,
    IDEMPOTENCY_KEY,
    MIN_POSITION,
    POSITION,
    PREFER,
    STALENESS,
)
from segments.http.routing.operation import (
    COMMANDS,
    FRESHNESS,
    REJECTED_SEGMENT,
    Answer,
    Body,
    Received,
)
from segments.http.routing.query import OPAQUE, Page, place_of
from segments.http.routing.routes import Routes

_RULE = {"percent": 10, "exclude": ["beta"]}
_NOT_SHOWN_YET = Answer(
    "Kafka has the command, but there is no result yet; or it is decided, but not visible here "
    "within the wait.",
    bodies.Pending | Result,
    headers=("Location",),
    maybe=(POSITION,),
)

routes = Routes("segments")


class PreviewBody(BaseModel):
    """Body of POST /v1/segments/preview."""

    model_config = ConfigDict(extra="forbid")

    auto: Auto


class SegmentsQuery(Page):
    """Which page of the segments."""

    cursor: Annotated[list[Any] | None, BeforeValidator(place_of(str)), OPAQUE] = None


@routes.post(
    "/v1/segments",
    role=Role.ADMIN,
    body=Body(
        NewSegmentBody,
        {
            "by hand": {"segment": "vip", "description": "the best"},
            "by a rule": {"segment": "tenth", "auto": _RULE},
        },
    ),
    headers=(PREFER, IDEMPOTENCY_KEY),
    answers={
        201: Answer("The segment.", bodies.Segment, headers=(POSITION, "Location")),
        202: _NOT_SHOWN_YET,
    },
    problems=((422, "segment_unknown"), *REJECTED_SEGMENT, *COMMANDS),
)
async def create(request: web.Request, body: Received[NewSegmentBody]) -> web.Response:
    """Make a segment: 201, or 409 when the name is in use.

    With a rule (`auto`) it is given to exactly the rounded share of the users whom the filters let
    through; it is `assigning` until everything is written.
    """
    name = body.model.segment
    command = {"type": "create_segment", "id": command_id(request), **body.raw}
    return await execute(request, name, command, respond=partial(_shown, request, name, 201))


@routes.patch(
    "/v1/segments/{segment}",
    role=Role.ADMIN,
    body=Body(
        SegmentBody,
        {
            "description": {"description": "better"},
            "rule": {"auto": {"percent": 25, "exclude": ["beta"]}},
        },
    ),
    headers=(PREFER, IDEMPOTENCY_KEY),
    answers={
        200: Answer("The segment.", bodies.Segment, headers=(POSITION, "Location")),
        202: _NOT_SHOWN_YET,
    },
    problems=((404, "segment_unknown"), *REJECTED_SEGMENT, *COMMANDS),
)
async def update(request: web.Request, body: Received[SegmentBody]) -> web.Response:
    """Change the description of a segment, or its rule.

    A higher `percent` or `count` gives the segment to as many more; nobody loses it. Other filters
    with the same share change whom `newcomers` are.
    """
    name = requests.segment(request)
    command = {"type": "update_segment", "id": command_id(request), "segment": name, **body.raw}
    as_model(command, UpdateSegment)
    respond = partial(_shown, request, name, 200)
    return await execute(request, name, command, segment=name, respond=respond)


def _shown(request: web.Request, name: str, status: int, result: dict[str, Any]) -> web.Response:
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
        serializers.definition(services, stored), status=status, headers=headers
    )


@routes.post(
    "/v1/segments/preview",
    role=Role.ANALYST,  # it goes through the log, but changes nothing
    body=Body(PreviewBody, {"a tenth": {"auto": _RULE}}),
    headers=(PREFER, IDEMPOTENCY_KEY),
    answers={
        200: Answer("As of `Segments-Position`.", Preview, headers=(POSITION,)),
        202: PENDING,
    },
    problems=((422, "segment_unknown"), *COMMANDS),
)
async def preview(request: web.Request, body: Received[PreviewBody]) -> web.Response:
    """How many users a rule lets through now, and how many it would choose.

    Changes nothing.
    """
    command = {"type": "preview_segment", "id": command_id(request), **body.raw}
    return await execute(request, command["id"], command, respond=_preview_response)


def _preview_response(result: dict[str, Any]) -> web.Response:
    return requests.json_response(result["preview"], headers=position_header(result))


@routes.delete(
    "/v1/segments/{segment}",
    role=Role.ADMIN,
    headers=(PREFER, IDEMPOTENCY_KEY),
    answers={
        200: Answer("The result.", bodies.Deleted, headers=(POSITION,)),
        202: PENDING,
    },
    problems=((404, "segment_unknown"), *REJECTED_SEGMENT, *COMMANDS),
)
async def delete(request: web.Request) -> web.Response:
    """End a segment and every membership in it.

    `referenced_by` names the segments whose filters name this one: from now on it lets nobody
    through their `include`, and keeps nobody out by their `exclude`.
    """
    name = requests.segment(request)
    command = {"type": "delete_segment", "id": command_id(request), "segment": name}
    view = request.app[SERVICES].view

    def respond(result: dict[str, Any]) -> web.Response:
        body = {**result, "referenced_by": view.referring_to(name)}
        return requests.json_response(body, headers=position_header(result))

    return await execute(request, name, command, segment=name, respond=respond)


@routes.get(
    "/v1/segments/{segment}",
    role=Role.ANALYST,
    headers=(PREFER, MIN_POSITION),
    answers={200: Answer("The segment.", bodies.Segment, headers=FRESH)},
    problems=((404, "segment_unknown"), *FRESHNESS),
)
async def show(request: web.Request) -> web.Response:
    """A definition and the size of its segment, how far an assignment is."""
    name = requests.segment(request)
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    headers = services.freshness(_home(services, name))
    stored = services.view.definition(name)
    if stored is None or stored["state"] == "deleted":
        raise Problem(404, "segment_unknown", "no such segment", headers=headers)
    return requests.json_response(serializers.definition(services, stored), headers=headers)


def _home(services: Services, name: str) -> int:
    return partition_of(name, services.settings.partitions)


@routes.get(
    "/v1/segments",
    role=Role.ANALYST,
    query=SegmentsQuery,
    headers=(PREFER, MIN_POSITION),
    answers={
        200: Answer("A page.", bodies.SegmentPage, headers=(STALENESS,), maybe=(POSITION, "Link")),
    },
    problems=FRESHNESS,
)
async def list_all(request: web.Request, query: SegmentsQuery) -> web.Response:
    """Every segment in use, by name."""
    limit, place = query.limit, query.cursor
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    view = services.view
    headers = services.freshness_of(services.kept_partitions(), view.progress)
    # A walk over thousands of deleted ones, at worst: not in the event loop.
    found = await asyncio.get_running_loop().run_in_executor(
        services.pool, view.definitions, place[0] if place else "", limit + 1
    )
    items = [serializers.definition(services, stored) for stored in found[:limit]]
    following = [items[-1]["segment"]] if len(found) > limit else None
    return requests.page(request, items, following, headers)
