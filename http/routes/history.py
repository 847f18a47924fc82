"""A user's history, its memberships at a past time, and the cause of a membership."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from aiohttp import web
from pydantic import BeforeValidator, Field

from segments.contracts.positions import format_position
from segments.contracts.responses.users_and_segments import HistoryPage
from segments.contracts.times import to_rfc3339
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services, not_ready
from segments.http.problems import Problem
from segments.http.routes import requests
from segments.http.routing.headers import COMPLETE_UNTIL, MIN_POSITION, PREFER
from segments.http.routing.operation import (
    FRESHNESS_PROBLEMS,
    HISTORY_PROBLEMS,
    PARTITION_PROBLEMS,
    Response,
)
from segments.http.routing.query import CURSOR_SCHEMA, PageQuery, QueryInstant, cursor_decoder
from segments.http.routing.routes import Routes
from segments.state.history.protocol import Cursor, HistoryUnavailableError, StoredRow

WHY_WAIT_S = 1.0
_WHY_ROWS = 100
_POLL_S = 0.05

routes = Routes("users")


class HistoryQuery(PageQuery):
    """Which rows: from <= at < to."""

    from_ms: Annotated[
        QueryInstant | None, Field(alias="from", description="at or after this time")
    ] = None
    to_ms: Annotated[QueryInstant | None, Field(alias="to", description="before this time")] = None
    cursor: Annotated[
        list[Any] | None, BeforeValidator(cursor_decoder(int, int, int)), CURSOR_SCHEMA
    ] = None


@routes.get(
    "/v1/users/{user_id}/history",
    role=Role.ANALYST,
    query=HistoryQuery,
    headers=(PREFER, MIN_POSITION),
    responses={200: Response("A page.", HistoryPage, optional_headers=(COMPLETE_UNTIL, "Link"))},
    problems=((404, "user_unknown"), *PARTITION_PROBLEMS, *FRESHNESS_PROBLEMS, *HISTORY_PROBLEMS),
)
async def list_history(request: web.Request, query: HistoryQuery) -> web.Response:
    """Every change of a user, newest first, with from <= at < to.

    With `Segments-Min-Position` the response includes every row written up to that position.
    `Segments-Complete-Until` is absent while it is unknown.
    """
    user_id = requests.user_id(request)
    limit, place = query.limit, query.cursor
    services = request.app[SERVICES]
    partition = services.partition_of_user(user_id)
    complete_ms = await _wait_until_complete(request, services, partition)
    entries = await services.history.user_rows(
        user_id,
        from_ms=query.from_ms,
        to_ms=query.to_ms,
        before=None if place is None else Cursor(*place),
        limit=limit + 1,
    )
    following = list(entries[limit - 1].cursor) if len(entries) > limit else None
    if not entries and place is None and services.view.user(user_id) is None:
        services.freshness(partition)
        raise Problem(404, "user_unknown", "the user is not in the replica")
    headers = {} if complete_ms is None else {COMPLETE_UNTIL: to_rfc3339(complete_ms)}
    return requests.page(request, [row(entry) for entry in entries[:limit]], following, headers)


async def _wait_until_complete(
    request: web.Request, services: Services, partition: int
) -> int | None:
    """The timestamp (ms) up to which the partition's rows are complete; None if unknown.

    With Segments-Min-Position it waits until the store has the rows written up to the positions.
    """
    positions = requests.min_positions(request)
    if not positions:
        return await services.watermark.wait_until([partition], 0, 0)
    left_s = await services.wait_for(positions, requests.preference(request).wait_s)
    marker = services.view.progress.get(partition)
    if marker is None:
        raise not_ready()
    return await services.watermark.require_rows(partition, marker, left_s)


def row(entry: StoredRow) -> dict[str, Any]:
    """A history row with the field names of the contract, and its id."""
    return {"id": format_position(entry.partition, entry.offset), **entry.to_row()}


async def memberships_at(request: web.Request, user_id: str, at_ms: int) -> web.Response:
    """A user's memberships at a past time. Problem 503 unless the store is complete up to it."""
    if at_ms > time.time() * 1000:
        raise Problem(400, "invalid", "at: the time is in the future")
    services = request.app[SERVICES]
    partition = services.partition_of_user(user_id)
    services.freshness(partition)
    wait_s = requests.preference(request).wait_s
    left_s = await services.wait_for(requests.min_positions(request), wait_s)
    complete_ms = await services.watermark.require([partition], at_ms, left_s)
    held = await services.history.memberships_at(user_id, at_ms)
    if not held and services.view.user(user_id) is None:
        raise Problem(404, "user_unknown", "the user is not in the replica")
    body = {
        "user_id": user_id,
        "at": to_rfc3339(at_ms),
        "segments": [
            {
                "segment": past.segment,
                "since": to_rfc3339(past.since_ms),
                "expires_at": None
                if past.expires_at_ms is None
                else to_rfc3339(past.expires_at_ms),
                "origin": past.origin,
            }
            for past in held
        ],
    }
    return requests.json_response(body, headers={COMPLETE_UNTIL: to_rfc3339(complete_ms)})


async def why(
    services: Services, user_id: str, segment: str, held: dict[str, Any]
) -> dict[str, Any] | None:
    """The rows that began a membership and that set its current expiry.

    None if the history store does not have them within WHY_WAIT_S.
    """
    deadline_s = time.monotonic() + WHY_WAIT_S
    while True:
        try:
            found = await _cause_rows(services, user_id, segment, held)
        except HistoryUnavailableError:
            return None
        if found is not None or time.monotonic() >= deadline_s:
            return found
        await asyncio.sleep(_POLL_S)


async def _cause_rows(
    services: Services, user_id: str, segment: str, held: dict[str, Any]
) -> dict[str, Any] | None:
    since_ms, expires_at_ms = held["since"], held["expires_at"]
    rows = services.history.user_rows
    first = await rows(user_id, from_ms=since_ms, to_ms=since_ms + 1, segment=segment)
    began = next((entry for entry in first if entry.operation == "add"), None)
    if began is None:
        return None
    newest = await rows(user_id, from_ms=since_ms, segment=segment, limit=_WHY_ROWS)
    extended = (entry for entry in newest if entry.operation == "extend")
    # The store may be ahead of or behind the view: find the row with the expiry in the view.
    end_set = next((entry for entry in extended if entry.expires_at_ms == expires_at_ms), None)
    if end_set is None and began.expires_at_ms != expires_at_ms:
        return None
    return {"began": row(began), "end_set": None if end_set is None else row(end_set)}
