"""POST /v1/memberships/query, the batch query: the segments of many users at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator

from segments.contracts import times
from segments.contracts.messages import JSON_CONTENT_TYPE
from segments.contracts.names import SegmentName, UserId
from segments.contracts.responses.users_and_segments import QueriedUsers
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services
from segments.http.routes import requests
from segments.http.routing.headers import MIN_POSITION, POSITION, PREFER, STALENESS
from segments.http.routing.operation import (
    FRESHNESS_PROBLEMS,
    PARTITION_PROBLEMS,
    STREAM_PROBLEMS,
    JsonBody,
    ParsedBody,
    Response,
)
from segments.http.routing.routes import Routes
from segments.http.routing.streaming import require_chunked, stream
from segments.state.view import responses

MAX_USERS = 10_000
MAX_SEGMENTS = 1_000
WHOLE_MAX_BYTES = 4 * 1024 * 1024
_SLICE = 50
_LARGE_SLICE_BYTES = 256 * 1024
_STRIDE = 37
_NO_SEPARATORS = str.maketrans("", "", "-,")
_HEXADECIMAL = re.compile(r"[0-9a-f]*")

routes = Routes("users")


def _user_ids(value: Any, validate: ValidatorFunctionWrapHandler) -> list[str]:
    """Recognize canonical ids all at once; validate anything else one by one."""
    if isinstance(value, list) and 1 <= len(value) <= MAX_USERS and _all_canonical(value):
        return value
    ids: list[str] = validate(value)
    return ids


def _all_canonical(ids: list[Any]) -> bool:
    try:
        text = ",".join(ids) + ","
    except TypeError:
        return False
    count, hyphens = len(ids), "-" * len(ids)
    if len(text) != count * _STRIDE or text[_STRIDE - 1 :: _STRIDE] != "," * count:
        return False
    if any(text[place::_STRIDE] != hyphens for place in (8, 13, 18, 23)):
        return False
    digits = text.translate(_NO_SEPARATORS)
    return len(digits) == count * 32 and _HEXADECIMAL.fullmatch(digits) is not None


class UsersQuery(BaseModel):
    """Body of POST /v1/memberships/query; without `segments` all segments are returned."""

    model_config = ConfigDict(extra="forbid")

    user_ids: Annotated[
        list[UserId], Field(min_length=1, max_length=MAX_USERS), WrapValidator(_user_ids)
    ]
    segments: Annotated[list[SegmentName], Field(min_length=1, max_length=MAX_SEGMENTS)] | None = (
        None
    )


@routes.post(
    "/v1/memberships/query",
    role=Role.ANALYST,
    body=JsonBody(
        UsersQuery,
        {"two": {"user_ids": ["cd613e30-d8f1-4adf-91b7-584a2265b1f5"], "segments": ["beta"]}},
    ),
    headers=(PREFER, MIN_POSITION),
    responses={
        200: Response(
            "The users.", QueriedUsers, headers=(STALENESS,), optional_headers=(POSITION,)
        ),
    },
    problems=(*PARTITION_PROBLEMS, *FRESHNESS_PROBLEMS, *STREAM_PROBLEMS),
)
async def query(request: web.Request, body: ParsedBody[UsersQuery]) -> web.StreamResponse:
    """The segments of up to 10,000 users.

    In the order of the request; users who are unknown or deleted have an `error`. A large response
    is streamed, so that it does not have to fit into memory.
    """
    users = body.model
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    reader = _ItemReader(services, None if users.segments is None else frozenset(users.segments))
    chunks = _chunks(reader, users.user_ids)
    first: list[bytes] = []
    size = 0
    async for chunk in chunks:
        first.append(chunk)
        size += len(chunk)
        if size > WHOLE_MAX_BYTES:
            break
    else:
        return web.Response(
            body=b"".join(first), headers=reader.headers(), content_type=JSON_CONTENT_TYPE
        )
    headers = reader.headers(unread=users.user_ids) | {"Content-Type": JSON_CONTENT_TYPE}
    require_chunked(request)
    with services.stream_slot():
        return await stream(request, headers, _concatenated(first, chunks))


async def _chunks(reader: _ItemReader, user_ids: list[str]) -> AsyncIterator[bytes]:
    """The body in chunks."""
    prefix, place, count = b'{"items":[', 0, _SLICE
    while place < len(user_ids):
        # In the event loop, yielding in between: RocksDB and JSON hold the GIL, so a thread would
        # gain nothing and make other requests wait for the GIL.
        await asyncio.sleep(0)
        chunk = b",".join(map(reader.item, user_ids[place : place + count]))
        yield prefix + chunk
        place += count
        prefix, count = b",", _SLICE if len(chunk) < _LARGE_SLICE_BYTES else 1
    yield b"]}"


async def _concatenated(first: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join(first)
    first.clear()
    async for chunk in rest:
        yield chunk


class _ItemReader:
    """Reads the items of one response and tracks the partitions they come from."""

    def __init__(self, services: Services, only: frozenset[str] | None) -> None:
        self._services = services
        self._only = only
        self._progress = services.view.progress
        self._partitions: set[int] = set()

    def headers(self, *, unread: Iterable[str] = ()) -> dict[str, str]:
        """Freshness headers: the view's progress before the first item was read.

        `unread`: users that will be read later.
        """
        partitions = self._partitions.union(map(self._services.partition_of_user, unread))
        return self._services.freshness_of(partitions, self._progress)

    def item(self, user_id: str) -> bytes:
        """The JSON of a user. Problem 421 if this sidecar does not serve the user's partition."""
        now_ms = times.now_ms()
        if self._only is None:
            cached = self._services.view.response(user_id, now_ms)
            if cached is not None:
                self._partitions.add(cached.partition)
                return cached.body[:-1] + b',"error":null}'
        return self._from_document(user_id, now_ms)

    def _from_document(self, user_id: str, now_ms: int) -> bytes:
        self._partitions.add(self._services.partition_of_user(user_id))
        view = self._services.view
        document = view.user(user_id)
        if document is None:
            return _error_item(user_id, None, "user_unknown")
        if document["account"] == "deleted":
            return _error_item(user_id, "deleted", "user_deleted")
        held = view.memberships(document, now_ms)
        if self._only is not None:
            held = {segment: held[segment] for segment in held.keys() & self._only}
        return responses.body(document, held)[:-1] + b',"error":null}'


def _error_item(user_id: str, account: str | None, error: str) -> bytes:
    return orjson.dumps({"user_id": user_id, "account": account, "segments": [], "error": error})
