"""What requests say: ids, bodies, preferences, positions, pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from segments.contracts.names import canonical_user_id, check_segment_name
from segments.http.context import SERVICES
from segments.http.problems import Problem, invalid
from segments.http.read.waiters import Position
from segments.http.routing.headers import MIN_POSITION, POSITIONS_MAX, PREFER
from segments.http.routing.query import encode_cursor
from segments.settings import HttpSettings

M = TypeVar("M", bound=BaseModel)
BODY_TIMEOUT_S = 30.0
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6})\"?", re.ASCII)
_POSITION = re.compile(r"(\d{1,5}):(\d{1,18})", re.ASCII)


class Preference(NamedTuple):
    """RFC 7240: how long to wait for what was asked for, and whether to wait at all.

    `explicit`: the wait was asked for, it is not the default.
    """

    wait_s: float
    respond_async: bool
    explicit: bool = False


def user_id(request: web.Request) -> str:
    """The canonical user id of the path. Problem 400 when it is none."""
    try:
        return canonical_user_id(request.match_info["user_id"])
    except ValueError as error:
        raise Problem(400, "invalid", str(error)) from None


def segment(request: web.Request) -> str:
    """The segment name of the path. Problem 400 when it is none."""
    try:
        return check_segment_name(request.match_info["segment"])
    except ValueError as error:
        raise Problem(400, "invalid", str(error)) from None


def preference(request: web.Request) -> Preference:
    """The header Prefer; a wait beyond the limit is cut down to it."""
    http = request.app[SERVICES].settings.http
    text = ",".join(request.headers.getall(PREFER, ()))
    if not text:
        return Preference(http.wait_s, respond_async=False)
    respond_async, wait_s, explicit = False, http.wait_s, False
    for part in text.split(","):
        token = part.strip().lower()
        if token == "respond-async":  # noqa: S105 - not a secret
            respond_async = True
        elif match := _WAIT.fullmatch(token):
            wait_s, explicit = min(float(match[1]), http.max_wait_s), True
    return Preference(wait_s, respond_async, explicit)


def min_positions(request: web.Request) -> list[Position]:
    """The header Segments-Min-Position: `partition:offset`, several with commas."""
    text = ",".join(request.headers.getall(MIN_POSITION, ()))
    if MIN_POSITION not in request.headers:
        return []
    partitions = request.app[SERVICES].settings.partitions
    parts = text.split(",")
    matches = [_POSITION.fullmatch(part.strip()) for part in parts[:POSITIONS_MAX]]
    positions = [Position(int(match[1]), int(match[2])) for match in matches if match]
    if len(positions) != len(parts) or any(p.partition >= partitions for p in positions):
        raise Problem(
            400,
            "invalid",
            f"{MIN_POSITION} is partition:offset with a partition below {partitions}; "
            f"at most {POSITIONS_MAX}, with commas between",
        )
    return positions


async def received(request: web.Request, model: type[M]) -> tuple[M, Any]:
    """The JSON body as a model, and as it came. Problems as for `body`."""
    value = await _json(request)
    return as_model(value, model), value


async def _json(request: web.Request) -> Any:
    require_content_type(request, "application/json")
    raw = await read(request, request.app[SERVICES].settings.http.max_body_bytes)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "not_json", f"the body is not JSON: {error}") from None


def as_model(value: Any, model: type[M]) -> M:
    """What is known of a body as a model. Problem 422 naming the fields that are wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


def require_content_type(request: web.Request, *accepted: str) -> None:
    """Problem 415 unless the body is declared as one of these."""
    if request.content_type not in accepted:
        raise Problem(415, "content_type", f"the body must be {' or '.join(accepted)}")


async def read(request: web.Request, max_bytes: int) -> bytes:
    """The whole body. Problem 413 when too large, 408 too slow, 415 encoded, 400 broken."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "content_encoding", "the body must not be encoded")
    if request.content_length is not None and request.content_length > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _gathered(request, max_bytes)
    except TimeoutError:
        raise Problem(408, "body_timeout", f"no body within {BODY_TIMEOUT_S:g} s") from None
    except web.RequestPayloadError:
        raise Problem(400, "bad_body", "the body is not what its headers say it is") from None


async def _gathered(request: web.Request, max_bytes: int) -> bytes:
    gathered = bytearray()
    async for chunk in request.content.iter_any():
        gathered += chunk
        if len(gathered) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(gathered)


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, "body_too_large", f"a body has at most {max_bytes} bytes")


def page(
    request: web.Request,
    items: list[Any],
    place: list[Any] | None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A page of a list; `place` is where the next one begins, None at the end."""
    following = None if place is None else encode_cursor(place)
    headers = dict(headers or {})
    if following is not None:
        query = {name: value for name, value in request.query.items() if name != "cursor"}
        link = f"{request.rel_url.raw_path}?{urlencode(query | {'cursor': following})}"
        headers["Link"] = f'<{link}>; rel="next"'
    return json_response({"items": items, "next": following}, headers=headers)


def json_response(
    value: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """An answer in JSON."""
    return web.Response(
        body=orjson.dumps(value),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def location(collection: str, name: str) -> str:
    """The path of one of a collection's members, whatever characters its name has."""
    return f"{collection}/{quote(name, safe='')}"


def public_url(request: web.Request, http: HttpSettings) -> str:
    """Where clients reach this sidecar: as configured, or as this one did."""
    return (http.public_url or f"{request.scheme}://{request.host}").rstrip("/")
