"""POST /v1/memberships/query: the segments of many users at once."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator

from segments.contracts.names import SegmentName, UserId
from segments.http import requests
from segments.http.services import SERVICES, Services
from segments.state import view_answers

MAX_USERS = 10_000
MAX_SEGMENTS = 1_000
_SLICE = 50
_STRIDE = 37
_NO_SEPARATORS = str.maketrans("", "", "-,")
_HEXADECIMAL = re.compile(r"[0-9a-f]*")

routes = web.RouteTableDef()


def _user_ids(value: Any, checked: ValidatorFunctionWrapHandler) -> list[str]:
    """Canonical ids are recognised all at once, anything else is looked at one by one."""
    if isinstance(value, list) and 1 <= len(value) <= MAX_USERS and _all_canonical(value):
        return value
    ids: list[str] = checked(value)
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


class Query(BaseModel):
    """Body of POST /v1/memberships/query; without `segments` all are told."""

    model_config = ConfigDict(extra="forbid")

    user_ids: Annotated[
        list[UserId], Field(min_length=1, max_length=MAX_USERS), WrapValidator(_user_ids)
    ]
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
    reading = _Reading(services, None if wanted.segments is None else frozenset(wanted.segments))
    parts: list[bytes] = []
    for start in range(0, len(wanted.user_ids), _SLICE):
        # In the event loop, with a pause: RocksDB and JSON hold the interpreter, so that a thread
        # would gain nothing and make everyone else wait for its turns.
        await asyncio.sleep(0)
        parts += map(reading.item, wanted.user_ids[start : start + _SLICE])
    body = b'{"items":[' + b",".join(parts) + b"]}"
    return web.Response(body=body, headers=reading.headers(), content_type="application/json")


class _Reading:
    """The items of one answer, and the partitions they came from."""

    def __init__(self, services: Services, only: frozenset[str] | None) -> None:
        self._services = services
        self._only = only
        self._progress = services.view.progress
        self._partitions: set[int] = set()

    def headers(self) -> dict[str, str]:
        """How fresh the items are: as fresh as the view was before the first was read."""
        return self._services.freshness_of(self._partitions, self._progress)

    def item(self, user_id: str) -> bytes:
        """What there is to say of a user. Problem 421 for one of another sidecar's partitions."""
        now_ms = time.time_ns() // 1_000_000
        if self._only is None:
            made = self._services.view.answer(user_id, now_ms)
            if made is not None:
                self._partitions.add(made.partition)
                return made.body[:-1] + b',"error":null}'
        return self._from_document(user_id, now_ms)

    def _from_document(self, user_id: str, now_ms: int) -> bytes:
        self._partitions.add(self._services.partition_of_user(user_id))
        view = self._services.view
        document = view.user(user_id)
        if document is None:
            return _refusal(user_id, None, "user_unknown")
        if document["account"] == "deleted":
            return _refusal(user_id, "deleted", "user_deleted")
        held = view.memberships(document, now_ms)
        if self._only is not None:
            held = {segment: held[segment] for segment in held.keys() & self._only}
        return view_answers.body(document, held)[:-1] + b',"error":null}'


def _refusal(user_id: str, account: str | None, error: str) -> bytes:
    return orjson.dumps({"user_id": user_id, "account": account, "segments": [], "error": error})
