"""/v1/users: the memberships of a user, read and changed."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from segments.contracts.commands import MembershipChange
from segments.contracts.times import to_rfc3339
from segments.http import past, requests
from segments.http.commanding import command_id, perform, position_header
from segments.http.problems import Problem
from segments.http.services import SERVICES, Services
from segments.state import view_answers

routes = web.RouteTableDef()


@routes.get("/v1/users/{user_id}/segments")
async def list_segments(request: web.Request) -> web.Response:
    """The active segments of a user, now or (`at`) at a past instant."""
    user_id = requests.user_id(request)
    if request.query_string:
        requests.only(request, "at")
        if (at_ms := requests.instant(request, "at")) is not None:
            return await past.memberships_at(request, user_id, at_ms)
    services = request.app[SERVICES]
    view = services.view
    if requests.MIN_POSITION in request.headers:
        await _wait_until_fresh(request, services, user_id)
    progress, now_ms = view.progress, time.time_ns() // 1_000_000
    made = view.answer(user_id, now_ms)
    if made is not None:
        headers = services.freshness(made.partition, progress)
        return _tagged(request, made.body, made.digest, headers)
    document, headers = await fresh_document(request, services, user_id)
    body = view_answers.body(document, view.memberships(document, now_ms))
    return _tagged(request, body, view_answers.digest(body), headers)


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
    if requests.MIN_POSITION in request.headers:
        await _wait_until_fresh(request, services, user_id)
    headers = services.freshness(services.partition_of_user(user_id))
    document = services.view.user(user_id)
    if document is None:
        raise Problem(404, "user_unknown", "the user is not in the replica", headers=headers)
    if document["account"] == "deleted":
        raise Problem(404, "user_deleted", "the user is deleted", headers=headers)
    return document, headers


@routes.get("/v1/users/{user_id}/segments/{segment}")
async def show_membership(request: web.Request) -> web.Response:
    """One membership: since when, until when, and why."""
    user_id, segment = requests.user_id(request), requests.segment(request)
    requests.only(request)
    services = request.app[SERVICES]
    document, headers = await fresh_document(request, services, user_id)
    held = services.view.memberships(document, time.time_ns() // 1_000_000).get(segment)
    if held is None:
        raise Problem(404, "not_a_member", "the user does not have this segment", headers=headers)
    body = {
        "user_id": user_id,
        **view_answers.membership(segment, held),
        "until": None if held["expires_at"] is None else to_rfc3339(held["expires_at"]),
        "why": await past.why(services, user_id, segment, held),
    }
    return requests.json_response(body, headers=headers)


@routes.patch("/v1/users/{user_id}/segments")
async def change_segments(request: web.Request) -> web.Response:
    """Add a user to segments and remove it from others, all or nothing."""
    user_id = requests.user_id(request)
    requests.only(request)
    request.app[SERVICES].partition_of_user(user_id)
    # Checked here so that the client learns of every wrong field at once; sent as it came.
    raw = await requests.checked_body(request, MembershipChange)
    command = {
        "type": "change_memberships",
        "id": command_id(request),
        "user_id": user_id,
        "add": raw.get("add", []),
        "remove": raw.get("remove", []),
    }
    result = await perform(request, user_id, command)
    if isinstance(result, web.Response):
        return result
    return requests.json_response(result, headers=position_header(result))
