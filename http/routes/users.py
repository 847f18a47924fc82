"""/v1/users: read and change the memberships of a user."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from segments.contracts import times
from segments.contracts.command_bodies import MembershipChange
from segments.contracts.documents import Result
from segments.contracts.messages import JSON_CONTENT_TYPE
from segments.contracts.responses import users_and_segments as bodies
from segments.contracts.times import to_rfc3339
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services
from segments.http.problems import Problem
from segments.http.routes import history, requests
from segments.http.routes.execute import PENDING, command_id, execute
from segments.http.routing.headers import (
    COMPLETE_UNTIL,
    FRESH,
    IDEMPOTENCY_KEY,
    MIN_POSITION,
    POSITION,
    PREFER,
)
from segments.http.routing.operation import (
    CHANGE_REJECTIONS,
    COMMAND_PROBLEMS,
    FRESHNESS_PROBLEMS,
    HISTORY_PROBLEMS,
    PARTITION_PROBLEMS,
    USER_PROBLEMS,
    JsonBody,
    ParsedBody,
    Response,
)
from segments.http.routing.query import Query, QueryInstant
from segments.http.routing.routes import Routes
from segments.state.view import responses

routes = Routes("users")


class AsOfQuery(Query):
    """An optional past time."""

    at: Annotated[QueryInstant | None, Field(description="a past time; default: now")] = None


@routes.get(
    "/v1/users/{user_id}/segments",
    role=Role.ANALYST,
    query=AsOfQuery,
    headers=(PREFER, MIN_POSITION, "If-None-Match"),
    responses={
        200: Response(
            "Sorted by name. Current memberships: with freshness headers and an ETag; past "
            "memberships: with `Segments-Complete-Until`.",
            bodies.UserSegments | bodies.UserSegmentsAt,
            optional_headers=(*FRESH, "ETag", COMPLETE_UNTIL),
        ),
        304: Response("Unchanged.", headers=(*FRESH, "ETag")),
    },
    problems=(*USER_PROBLEMS, *PARTITION_PROBLEMS, *FRESHNESS_PROBLEMS, *HISTORY_PROBLEMS),
)
async def list_segments(request: web.Request, query: AsOfQuery) -> web.Response:
    """The active segments of a user, now or at a past time (`at`)."""
    user_id = requests.user_id(request)
    if query.at is not None:
        return await history.memberships_at(request, user_id, query.at)
    services = request.app[SERVICES]
    view = services.view
    if MIN_POSITION in request.headers:
        await _wait_until_fresh(request, services, user_id)
    progress, now_ms = view.progress, times.now_ms()
    cached = view.response(user_id, now_ms)
    if cached is not None:
        headers = services.freshness(cached.partition, progress)
        return _etag_response(request, cached.body, cached.digest, headers)
    document, headers = await fresh_document(request, services, user_id)
    body = responses.body(document, view.memberships(document, now_ms))
    return _etag_response(request, body, responses.digest(body), headers)


def _etag_response(
    request: web.Request, body: bytes, digest: str, headers: dict[str, str]
) -> web.Response:
    """The body with its ETag, or 304 if the client has it."""
    etag = f'"{digest}"'
    headers["ETag"] = etag
    known = request.headers.get("If-None-Match")
    if known is not None and (known == "*" or etag in known):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type=JSON_CONTENT_TYPE)


async def _wait_until_fresh(request: web.Request, services: Services, user_id: str) -> None:
    services.partition_of_user(user_id)
    wait_s = requests.preference(request).wait_s
    await services.wait_for(requests.min_positions(request), wait_s)


async def fresh_document(
    request: web.Request, services: Services, user_id: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """A user's document, as fresh as the request requires, and its freshness headers.

    Problem 404 `user_unknown` or `user_deleted`, with those headers; 503 if not fresh in time.
    """
    if MIN_POSITION in request.headers:
        await _wait_until_fresh(request, services, user_id)
    headers = services.freshness(services.partition_of_user(user_id))
    document = services.view.user(user_id)
    if document is None:
        raise Problem(404, "user_unknown", "the user is not in the replica", headers=headers)
    if document["account"] == "deleted":
        raise Problem(404, "user_deleted", "the user is deleted", headers=headers)
    return document, headers


@routes.get(
    "/v1/users/{user_id}/segments/{segment}",
    role=Role.ANALYST,
    headers=(PREFER, MIN_POSITION),
    responses={200: Response("The user has the segment.", bodies.Membership, headers=FRESH)},
    problems=((404, "not_a_member"), *USER_PROBLEMS, *PARTITION_PROBLEMS, *FRESHNESS_PROBLEMS),
)
async def show_membership(request: web.Request) -> web.Response:
    """One membership: start, expiry and cause."""
    user_id, segment = requests.user_id(request), requests.segment(request)
    services = request.app[SERVICES]
    document, headers = await fresh_document(request, services, user_id)
    held = services.view.memberships(document, times.now_ms()).get(segment)
    if held is None:
        raise Problem(404, "not_a_member", "the user does not have this segment", headers=headers)
    body = {
        "user_id": user_id,
        **responses.membership(segment, held),
        "until": None if held["expires_at"] is None else to_rfc3339(held["expires_at"]),
        "why": await history.why(services, user_id, segment, held),
    }
    return requests.json_response(body, headers=headers)


@routes.patch(
    "/v1/users/{user_id}/segments",
    role=Role.ADMIN,
    body=JsonBody(
        MembershipChange,
        {
            "both": {
                "add": ["beta", {"segment": "trial", "ttl": "PT1M"}],
                "remove": ["newsletter"],
            }
        },
    ),
    headers=(PREFER, IDEMPOTENCY_KEY),
    responses={
        200: Response("The result: `applied`, or `unchanged`.", Result, headers=(POSITION,)),
        202: PENDING,
    },
    problems=(*CHANGE_REJECTIONS, *PARTITION_PROBLEMS, *COMMAND_PROBLEMS),
)
async def change_segments(request: web.Request, body: ParsedBody[MembershipChange]) -> web.Response:
    """Add a user to segments and remove it from others, all or nothing.

    Responds once this sidecar's view includes the result, or with 202 when the wait is over. A
    command that names an unknown segment is deferred before it is rejected.
    """
    user_id = requests.user_id(request)
    request.app[SERVICES].partition_of_user(user_id)
    # Sent as received: validation only reports every invalid field at once.
    command = {
        "type": "change_memberships",
        "id": command_id(request),
        "user_id": user_id,
        "add": body.raw.get("add", []),
        "remove": body.raw.get("remove", []),
    }
    return await execute(request, user_id, command)
