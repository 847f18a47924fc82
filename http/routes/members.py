"""GET /v1/segments/{segment}/users: who has a segment, by pages or all at once (F2)."""

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
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services
from segments.http.problems import Problem
from segments.http.routes import requests
from segments.http.routing.headers import MIN_POSITION, POSITION, PREFER, STALENESS
from segments.http.routing.operation import CSV, ELSEWHERE, FRESHNESS, NDJSON, STREAMS, Answer
from segments.http.routing.query import OPAQUE, Page, foreign_cursor, place_of, unknown
from segments.http.routing.routes import Routes
from segments.http.routing.streaming import BrokenOffError, require_chunks, stream
from segments.state.view.members import Member

CHUNK_MEMBERS = 5_000
_USER = re.compile("[0-9a-f]{32}")
_CSV_HEADER = b"user;since;expires_at;origin\n"

Encode = Callable[[list[Member]], bytes]

routes = Routes("segments")


class MembersQuery(Page):
    """Which page of the members; a stream of all takes no parameters."""

    cursor: Annotated[list[Any] | None, BeforeValidator(place_of(int, str)), OPAQUE] = None


@routes.get(
    "/v1/segments/{segment}/users",
    role=Role.ANALYST,
    query=MembersQuery,
    headers=(PREFER, MIN_POSITION),
    answers={
        200: Answer(
            "A page, or all.",
            MemberPage,
            media={
                NDJSON: 'A line of JSON a member, as the items of a page; at last `{"count": N}`.',
                CSV: "`user;since;expires_at;origin`, with that header line; at last `count;N`.",
            },
            headers=(STALENESS,),
            maybe=(POSITION, "Link"),
        ),
    },
    problems=(
        (404, "segment_unknown"),
        (410, "segment_replaced"),
        *ELSEWHERE,
        *FRESHNESS,
        *STREAMS,
    ),
)
async def list_members(request: web.Request, query: MembersQuery) -> web.StreamResponse:
    """A page of members; with `Accept: application/x-ndjson` or `text/csv` all of them.

    In the order of their ids. Whoever is a member throughout is given exactly once, whatever
    changes meanwhile; what a stream gave ends with the count of its members.
    """
    segment = requests.segment(request)
    encode = _wanted(request)
    if encode is not None and query.model_fields_set:
        raise unknown(min(query.model_fields_set))
    services = request.app[SERVICES]
    if services.settings.http.partitions is not None:
        raise Problem(421, "partition_elsewhere", "this sidecar does not know all partitions")
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    headers = services.freshness_of(services.kept_partitions(), services.view.progress)
    known = services.view.segments.get(segment)
    if known is None or known.deleted:
        raise Problem(404, "segment_unknown", "no such segment", headers=headers)
    if encode is None:
        return await _page(request, query, (segment, known.generation), headers)
    require_chunks(request)
    headers["Content-Type"] = f"{CSV if encode is csv else NDJSON}; charset=utf-8"
    with services.stream_slot():
        chunks = _all(services, segment, known.generation, encode)
        return await stream(request, headers, chunks)


def _wanted(request: web.Request) -> Encode | None:
    """How to write all members; None for a page."""
    accept = ",".join(request.headers.getall("Accept", ())).lower()
    return ndjson if NDJSON in accept else csv if CSV in accept else None


async def _page(
    request: web.Request, query: MembersQuery, wanted: tuple[str, int], headers: dict[str, str]
) -> web.Response:
    """`wanted`: the segment and its generation."""
    services, (segment, generation) = request.app[SERVICES], wanted
    limit, place = query.limit, query.cursor
    if place is not None and _USER.fullmatch(place[1]) is None:
        raise foreign_cursor()
    if place is not None and place[0] != generation:
        raise Problem(410, "segment_replaced", "the segment was deleted and made again since")
    after = place[1] if place else ""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(
        services.pool, services.view.members, segment, generation, after, limit + 1
    )
    now_ms = times.now_ms()
    given = found[:limit]
    items = [_item(member) for member in given if _counts(member, now_ms)]
    following = [generation, given[-1].user.hex()] if len(found) > limit else None
    answer = requests.page(request, items, following)
    answer.headers.update(headers)
    return answer


async def _all(
    services: Services, segment: str, generation: int, encode: Encode
) -> AsyncIterator[bytes]:
    """Chunk by chunk, each read anew: nothing is held while the client does not read."""
    loop = asyncio.get_running_loop()
    if encode is csv:
        yield _CSV_HEADER
    after, count = "", 0

    def chunk() -> tuple[bytes, list[Member], int]:
        found = services.view.members(segment, generation, after, CHUNK_MEMBERS)
        now_ms = times.now_ms()
        counting = [member for member in found if _counts(member, now_ms)]
        return encode(counting), found, len(counting)

    while True:
        encoded, found, counting = await loop.run_in_executor(services.pool, chunk)
        count += counting
        if encoded:
            yield encoded
        if len(found) < CHUNK_MEMBERS:
            break
        after = found[-1].user.hex()
    known = services.view.segments.get(segment)
    if known is None or known.deleted or known.generation != generation:
        raise BrokenOffError("the segment was deleted while its members were sent")
    yield b"count;%d\n" % count if encode is csv else b'{"count":%d}\n' % count


def _counts(member: Member, now_ms: int) -> bool:
    return member.expires_at_ms is None or member.expires_at_ms > now_ms


def _item(member: Member) -> dict[str, str | None]:
    end = member.expires_at_ms
    return {
        "user_id": _user_id(member.user),
        "since": to_rfc3339(member.since_ms),
        "expires_at": None if end is None else to_rfc3339(end),
        "origin": member.origin,
    }


def _user_id(user: bytes) -> str:
    text = user.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def ndjson(members: list[Member]) -> bytes:
    """A line of JSON a member, as the items of a page."""
    lines = []
    for user, since_ms, end, origin in members:
        until = "null" if end is None else f'"{to_rfc3339(end)}"'
        lines.append(
            f'{{"user_id":"{_user_id(user)}","since":"{to_rfc3339(since_ms)}",'
            f'"expires_at":{until},"origin":"{origin}"}}\n'
        )
    return "".join(lines).encode()


def csv(members: list[Member]) -> bytes:
    """A line `user;since;expires_at;origin` a member."""
    lines = []
    for user, since_ms, end, origin in members:
        until = "" if end is None else to_rfc3339(end)
        lines.append(f"{_user_id(user)};{to_rfc3339(since_ms)};{until};{origin}\n")
    return "".join(lines).encode()
