"""/v1/users: the memberships of a user, read and changed."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from segments.contracts import times
from segments.contracts.commands import MembershipChange
from segments.contracts.documents import Result
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
    COMMANDS,
    ELSEWHERE,
    FRESHNESS,
    HISTORY,
    REJECTED_CHANGE,
    USER_MISSING,
    Answer,
    Body,
    Received,
)
from segments.http.routing.query import Instant, Query
from segments.http.routing.routes import Routes
from segments.state.view import responses

routes = Routes("users")


class At(Query):
    """An instant of the past."""

    at: Annotated[Instant | None, Field(description="as of then; now without it")] = None


@routes.get(
    "/v1/users/{user_id}/segments",
    role=Role.ANALYST,
    query=At,
    headers=(PREFER, MIN_POSITION, "If-None-Match"),
    answers={
        200: Answer(
            "Sorted by name. Of now: with the headers of freshness and an ETag; of an instant of "
            "the past: with `Segments-Complete-Until`.",
            bodies.UserSegments | bodies.UserSegmentsAt,
            maybe=(*FRESH, "ETag", COMPLETE_UNTIL),
        ),
        304: Answer("As the client has it.", headers=(*FRESH, "ETag")),
    },
    problems=(*USER_MISSING, *ELSEWHERE, *FRESHNESS, *HISTORY),
)
async def list_segments(request: web.Request, query: At) -> web.Response:
    """The active segments of a user, now or (`at`) at a past instant."""
    user_id = requests.user_id(request)
    if query.at is not None:
        return await history.memberships_at(request, user_id, query.at)
    services = request.app[SERVICES]
    view = services.view
    if MIN_POSITION in request.headers:
        await _wait_until_fresh(request, services, user_id)
    progress, now_ms = view.progress, times.now_ms()
    made = view.answer(user_id, now_ms)
    if made is not None:
        headers = services.freshness(made.partition, progress)
        return _tagged(request, made.body, made.digest, headers)
    document, headers = await fresh_document(request, services, user_id)
    body = responses.body(document, view.memberships(document, now_ms))
    return _tagged(request, body, responses.digest(body), headers)


def _tagged(
    request: web.Request, body: bytes, digest: str, headers: dict[str, str]
) -> web.Response:
    """The body with its ETag, or 304 when the client has it."""
    etag = f'"{digest}"'
    headers["ETag"] = etag
    asked = request.headers.get("If-None-Match")
    if asked is not None and (asked == "*" or etag in asked):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type="application/json")


async def _wait_until_fresh(request: web.Request, services: Services, user_id: str) -> None:
    services.partition_of_user(user_id)
    wait_s = requests.preference(request).wait_s
    await services.wait_for(requests.min_positions(request), wait_s)


async def fresh_document(
    request: web.Request, services: Services, user_id: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The document of a user as fresh as asked for, and the headers that say how fresh it is.

    Problem 404 `user_unknown` or `user_deleted`, with those headers; 503 when not fresh in time.
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
    answers={200: Answer("The user has the segment.", bodies.Membership, headers=FRESH)},
    problems=((404, "not_a_member"), *USER_MISSING, *ELSEWHERE, *FRESHNESS),
)
async def show_membership(request: web.Request) -> web.Response:
    """One membership: since when, until when, and why."""
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
    body=Body(
        MembershipChange,
        {
            "both": {
                "add": ["beta", {"segment": "trial", "ttl": "PT1M"}],
                "remove": ["newsletter"],
            }
        },
    ),
    headers=(PREFER, IDEMPOTENCY_KEY),
    answers={
        200: Answer("The result: `applied`, or `unchanged`.", Result, headers=(POSITION,)),
        202: PENDING,
    },
    problems=(*REJECTED_CHANGE, *ELSEWHERE, *COMMANDS),
)
async def change_segments(request: web.Request, body: Received[MembershipChange]) -> web.Response:
    """Add a user to segments and remove it from others, all or nothing.

    The answer comes as soon as this sidecar's view shows the result, or the wait is over. A segment
    that does not exist is waited for before the command is rejected.
    """
    user_id = requests.user_id(request)
    request.app[SERVICES].partition_of_user(user_id)
    # Sent as it came: checked so that the client learns of every wrong field at once.
    command = {
        "type": "change_memberships",
        "id": command_id(request),
        "user_id": user_id,
        "add": body.raw.get("add", []),
        "remove": body.raw.get("remove", []),
    }
    return await execute(request, user_id, command)
