"""POST /v1/memberships/query: the segments of many users at once."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from segments.contracts.names import SegmentName, UserId
from segments.http import answers, requests
from segments.http.services import SERVICES, Services

MAX_USERS = 10_000
MAX_SEGMENTS = 1_000
_SLICE = 500

routes = web.RouteTableDef()


class Query(BaseModel):
    """Body of POST /v1/memberships/query; without `segments` all are told."""

    model_config = ConfigDict(extra="forbid")

    user_ids: Annotated[list[UserId], Field(min_length=1, max_length=MAX_USERS)]
    segments: Annotated[list[SegmentName], Field(min_length=1, max_length=MAX_SEGMENTS)] | None = (
        None
    )


@routes.post("/v1/memberships/query")
async def query(request: web.Request) -> web.Response:
    """Per user in the order asked for; who is not in the replica or deleted is marked."""
    requests.only(request)
    wanted = await requests.body(request, Query)
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    partitions = {services.partition_of_user(user_id) for user_id in wanted.user_ids}
    headers = services.freshness_of(partitions)
    only = None if wanted.segments is None else frozenset(wanted.segments)
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    for start in range(0, len(wanted.user_ids), _SLICE):
        some = wanted.user_ids[start : start + _SLICE]
        parts.append(await loop.run_in_executor(services.pool, _items, services, some, only))
    body = b'{"items":[' + b",".join(parts) + b"]}"
    return web.Response(body=body, headers=headers, content_type="application/json")


def _items(services: Services, user_ids: list[str], only: frozenset[str] | None) -> bytes:
    now_ms = time.time_ns() // 1_000_000
    items = [_item(services, user_id, only, now_ms) for user_id in user_ids]
    return orjson.dumps(items)[1:-1]


def _item(
    services: Services, user_id: str, only: frozenset[str] | None, now_ms: int
) -> dict[str, Any]:
    document = services.view.user(user_id)
    if document is None:
        return {"user_id": user_id, "account": None, "segments": [], "error": "user_unknown"}
    account = document["account"]
    if account == "deleted":
        return {"user_id": user_id, "account": account, "segments": [], "error": "user_deleted"}
    held = services.view.memberships(document, now_ms)
    if only is not None:
        held = {segment: held[segment] for segment in held.keys() & only}
    return {
        "user_id": user_id,
        "account": account,
        "segments": answers.memberships(held),
        "error": None,
    }
