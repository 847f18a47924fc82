"""/v1/segments: read and change segment definitions."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict

from segments.contracts.auto import Auto
from segments.contracts.command_bodies import NewSegmentBody, SegmentBody
from segments.contracts.commands import UpdateSegment
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
    COMMAND_PROBLEMS,
    FRESHNESS_PROBLEMS,
    SEGMENT_REJECTIONS,
    JsonBody,
    ParsedBody,
    Response,
)
from segments.http.routing.query import CURSOR_SCHEMA, PageQuery, cursor_decoder
from segments.http.routing.routes import Routes

_EXAMPLE_RULE = {"percent": 10, "exclude": ["beta"]}
_NOT_VISIBLE_YET = Response(
    "Kafka has accepted the command, but it has no result yet, or the view does not include the "
    "result within the wait.",
    bodies.Pending | Result,
    headers=("Location",),
    optional_headers=(POSITION,),
)

routes = Routes("segments")


class PreviewBody(BaseModel):
    """Body of POST /v1/segments/preview."""

    model_config = ConfigDict(extra="forbid")

    auto: Auto


class SegmentsQuery(PageQuery):
    """Which page of the segments."""

    cursor: Annotated[list[Any] | None, BeforeValidator(cursor_decoder(str)), CURSOR_SCHEMA] = None


@routes.post(
    "/v1/segments",
    role=Role.ADMIN,
    body=JsonBody(
        NewSegmentBody,
        {
            "by hand": {"segment": "vip", "description": "the best"},
            "by a rule": {"segment": "tenth", "auto": _EXAMPLE_RULE},
        },
    ),
    headers=(PREFER, IDEMPOTENCY_KEY),
    responses={
        201: Response("The segment.", bodies.Segment, headers=(POSITION, "Location")),
        202: _NOT_VISIBLE_YET,
    },
    problems=((422, "segment_unknown"), *SEGMENT_REJECTIONS, *COMMAND_PROBLEMS),
)
async def create(request: web.Request, body: ParsedBody[NewSegmentBody]) -> web.Response:
    """Create a segment: 201, or 409 if the name is in use.

    With a rule (`auto`), exactly the rounded share of the users who match its filters is assigned;
    the state is `assigning` until all memberships are written.
    """
    name = body.model.segment
    command = {"type": "create_segment", "id": command_id(request), **body.raw}
    return await execute(
        request, name, command, respond=partial(_definition_response, request, name, 201)
    )


@routes.patch(
    "/v1/segments/{segment}",
    role=Role.ADMIN,
    body=JsonBody(
        SegmentBody,
        {
            "description": {"description": "better"},
            "rule": {"auto": {"percent": 25, "exclude": ["beta"]}},
        },
    ),
    headers=(PREFER, IDEMPOTENCY_KEY),
    responses={
        200: Response("The segment.", bodies.Segment, headers=(POSITION, "Location")),
        202: _NOT_VISIBLE_YET,
    },
    problems=((404, "segment_unknown"), *SEGMENT_REJECTIONS, *COMMAND_PROBLEMS),
)
async def update(request: web.Request, body: ParsedBody[SegmentBody]) -> web.Response:
    """Change the description of a segment, or its rule.

    A higher `percent` or `count` assigns as many additional users; no member is removed. Changing
    only the filters affects which `newcomers` are assigned.
    """
    name = requests.segment(request)
    command = {"type": "update_segment", "id": command_id(request), "segment": name, **body.raw}
    as_model(command, UpdateSegment)
    respond = partial(_definition_response, request, name, 200)
    return await execute(request, name, command, segment=name, respond=respond)


def _definition_response(
    request: web.Request, name: str, status: int, result: dict[str, Any]
) -> web.Response:
    """The definition after the command, or 202 if the view does not include it yet."""
    services = request.app[SERVICES]
    headers = position_header(result)
    reached = services.waiters.has_reached(Position.parse(result["position"]))
    stored = services.view.definition(name)
    if stored is None or not reached:
        # Decided, but not in this view within the wait.
        headers["Location"] = requests.location("/v1/commands", result["command_id"])
        return requests.json_response(result, status=202, headers=headers)
    headers["Location"] = requests.location("/v1/segments", name)
    return requests.json_response(
        serializers.definition(services, stored), status=status, headers=headers
    )


@routes.post(
    "/v1/segments/preview",
    role=Role.ANALYST,  # written to the log, but changes nothing
    body=JsonBody(PreviewBody, {"a tenth": {"auto": _EXAMPLE_RULE}}),
    headers=(PREFER, IDEMPOTENCY_KEY),
    responses={
        200: Response("As of `Segments-Position`.", Preview, headers=(POSITION,)),
        202: PENDING,
    },
    problems=((422, "segment_unknown"), *COMMAND_PROBLEMS),
)
async def preview(request: web.Request, body: ParsedBody[PreviewBody]) -> web.Response:
    """How many users match a rule's filters now, and how many it would assign.

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
    responses={
        200: Response("The result.", bodies.Deleted, headers=(POSITION,)),
        202: PENDING,
    },
    problems=((404, "segment_unknown"), *SEGMENT_REJECTIONS, *COMMAND_PROBLEMS),
)
async def delete(request: web.Request) -> web.Response:
    """Delete a segment and all its memberships.

    `referenced_by` lists the segments whose filters name this one: from now on it matches no user
    in their `include` and excludes none in their `exclude`.
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
    responses={200: Response("The segment.", bodies.Segment, headers=FRESH)},
    problems=((404, "segment_unknown"), *FRESHNESS_PROBLEMS),
)
async def show(request: web.Request) -> web.Response:
    """A definition with the size of its segment and the progress of its assignment."""
    name = requests.segment(request)
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    headers = services.freshness(_home_partition(services, name))
    stored = services.view.definition(name)
    if stored is None or stored["state"] == "deleted":
        raise Problem(404, "segment_unknown", "no such segment", headers=headers)
    return requests.json_response(serializers.definition(services, stored), headers=headers)


def _home_partition(services: Services, name: str) -> int:
    return partition_of(name, services.settings.partitions)


@routes.get(
    "/v1/segments",
    role=Role.ANALYST,
    query=SegmentsQuery,
    headers=(PREFER, MIN_POSITION),
    responses={
        200: Response(
            "A page.", bodies.SegmentPage, headers=(STALENESS,), optional_headers=(POSITION, "Link")
        ),
    },
    problems=FRESHNESS_PROBLEMS,
)
async def list_all(request: web.Request, query: SegmentsQuery) -> web.Response:
    """All existing segments, by name."""
    limit, place = query.limit, query.cursor
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    view = services.view
    headers = services.freshness_of(services.served_partitions(), view.progress)
    # It may skip thousands of deleted definitions: not in the event loop.
    found = await asyncio.get_running_loop().run_in_executor(
        services.pool, view.definitions, place[0] if place else "", limit + 1
    )
    items = [serializers.definition(services, stored) for stored in found[:limit]]
    following = [items[-1]["segment"]] if len(found) > limit else None
    return requests.page(request, items, following, headers)
