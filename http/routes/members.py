"""GET /v1/segments/{segment}/users: the members of a segment, paged or streamed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from aiohttp import web
from pydantic import BeforeValidator

from segments.contracts import times
from segments.contracts.responses.users_and_segments import MemberPage
from segments.contracts.times import to_rfc3339
from segments.contracts.user_ids import unpack
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services
from segments.http.problems import Problem
from segments.http.routes import requests
from segments.http.routing.headers import MIN_POSITION, POSITION, PREFER, STALENESS
from segments.http.routing.operation import (
    CSV_TYPE,
    FRESHNESS_PROBLEMS,
    NDJSON_TYPE,
    PARTITION_PROBLEMS,
    STREAM_PROBLEMS,
    Response,
)
from segments.http.routing.query import (
    CURSOR_SCHEMA,
    PageQuery,
    cursor_decoder,
    invalid_cursor,
    unknown_parameter,
)
from segments.http.routing.routes import Routes
from segments.http.routing.streaming import StreamAbortedError, require_chunked, stream
from segments.state.view.members import IndexedMember

CHUNK_MEMBERS = 5_000
_USER = re.compile("[0-9a-f]{32}")
_CSV_HEADER = b"user;since;expires_at;origin\n"

Encode = Callable[[list[IndexedMember]], bytes]

routes = Routes("segments")


class MembersQuery(PageQuery):
    """Which page of the members; streams take no parameters."""

    cursor: Annotated[
        list[Any] | None, BeforeValidator(cursor_decoder(int, str)), CURSOR_SCHEMA
    ] = None


@routes.get(
    "/v1/segments/{segment}/users",
    role=Role.ANALYST,
    query=MembersQuery,
    headers=(PREFER, MIN_POSITION),
    responses={
        200: Response(
            "A page, or all members.",
            MemberPage,
            media={
                NDJSON_TYPE: "One JSON object per line, like the items of a page; the last line is "
                '`{"count": N}`.',
                CSV_TYPE: "`user;since;expires_at;origin`, with that header line; the last line is "
                "`count;N`.",
            },
            headers=(STALENESS,),
            optional_headers=(POSITION, "Link"),
        ),
    },
    problems=(
        (404, "segment_unknown"),
        (410, "segment_replaced"),
        *PARTITION_PROBLEMS,
        *FRESHNESS_PROBLEMS,
        *STREAM_PROBLEMS,
    ),
)
async def list_members(request: web.Request, query: MembersQuery) -> web.StreamResponse:
    """A page of members; with `Accept: application/x-ndjson` or `text/csv` all of them.

    Ordered by user id. A user who is a member throughout appears exactly once, whatever else
    changes meanwhile. A stream ends with the number of its members.
    """
    segment = requests.segment(request)
    encode = _requested_encoder(request)
    if encode is not None and query.model_fields_set:
        raise unknown_parameter(min(query.model_fields_set))
    services = request.app[SERVICES]
    if services.settings.http.partitions is not None:
        raise Problem(421, "partition_elsewhere", "this sidecar does not serve all partitions")
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    headers = services.freshness_of(services.served_partitions(), services.view.progress)
    meta = services.view.segments.get(segment)
    if meta is None or meta.deleted:
        raise Problem(404, "segment_unknown", "no such segment", headers=headers)
    if encode is None:
        return await _page(request, query, (segment, meta.generation), headers)
    require_chunked(request)
    headers["Content-Type"] = f"{CSV_TYPE if encode is csv else NDJSON_TYPE}; charset=utf-8"
    with services.stream_slot():
        chunks = _all_members(services, segment, meta.generation, encode)
        return await stream(request, headers, chunks)


def _requested_encoder(request: web.Request) -> Encode | None:
    """The encoder for a stream of all members; None for a page."""
    accept = ",".join(request.headers.getall("Accept", ())).lower()
    return ndjson if NDJSON_TYPE in accept else csv if CSV_TYPE in accept else None


async def _page(
    request: web.Request, query: MembersQuery, key: tuple[str, int], headers: dict[str, str]
) -> web.Response:
    """`key`: the segment and its generation."""
    services, (segment, generation) = request.app[SERVICES], key
    limit, place = query.limit, query.cursor
    if place is not None and _USER.fullmatch(place[1]) is None:
        raise invalid_cursor()
    if place is not None and place[0] != generation:
        raise Problem(410, "segment_replaced", "the segment was deleted and created again since")
    after = place[1] if place else ""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(
        services.pool, services.view.members, segment, generation, after, limit + 1
    )
    now_ms = times.now_ms()
    page = found[:limit]
    items = [_item(member) for member in page if _is_active(member, now_ms)]
    following = [generation, page[-1].user.hex()] if len(found) > limit else None
    return requests.page(request, items, following, headers)


async def _all_members(
    services: Services, segment: str, generation: int, encode: Encode
) -> AsyncIterator[bytes]:
    """Encoded chunks, each from a new read: no snapshot is held while the client does not read."""
    loop = asyncio.get_running_loop()
    if encode is csv:
        yield _CSV_HEADER
    after, count = "", 0

    def chunk() -> tuple[bytes, list[IndexedMember], int]:
        found = services.view.members(segment, generation, after, CHUNK_MEMBERS)
        now_ms = times.now_ms()
        active = [member for member in found if _is_active(member, now_ms)]
        return encode(active), found, len(active)

    while True:
        encoded, found, active = await loop.run_in_executor(services.pool, chunk)
        count += active
        if encoded:
            yield encoded
        if len(found) < CHUNK_MEMBERS:
            break
        after = found[-1].user.hex()
    meta = services.view.segments.get(segment)
    if meta is None or meta.deleted or meta.generation != generation:
        raise StreamAbortedError("the segment was deleted while its members were being sent")
    yield b"count;%d\n" % count if encode is csv else b'{"count":%d}\n' % count


def _is_active(member: IndexedMember, now_ms: int) -> bool:
    return member.expires_at_ms is None or member.expires_at_ms > now_ms


def _item(member: IndexedMember) -> dict[str, str | None]:
    end = member.expires_at_ms
    return {
        "user_id": unpack(member.user),
        "since": to_rfc3339(member.since_ms),
        "expires_at": None if end is None else to_rfc3339(end),
        "origin": member.origin,
    }


def ndjson(members: list[IndexedMember]) -> bytes:
    """One JSON object per line, like the items of a page."""
    lines = []
    for user, since_ms, end, origin in members:
        until = "null" if end is None else f'"{to_rfc3339(end)}"'
        lines.append(
            f'{{"user_id":"{unpack(user)}","since":"{to_rfc3339(since_ms)}",'
            f'"expires_at":{until},"origin":"{origin}"}}\n'
        )
    return "".join(lines).encode()


def csv(members: list[IndexedMember]) -> bytes:
    """One line `user;since;expires_at;origin` per member."""
    lines = []
    for user, since_ms, end, origin in members:
        until = "" if end is None else to_rfc3339(end)
        lines.append(f"{unpack(user)};{to_rfc3339(since_ms)};{until};{origin}\n")
    return "".join(lines).encode()
