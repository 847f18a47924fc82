"""Parsing of path parameters and headers, and JSON and page responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web

from segments.contracts.messages import JSON_CONTENT_TYPE
from segments.contracts.names import canonical_user_id, check_segment_name
from segments.contracts.positions import Position
from segments.http.context import SERVICES
from segments.http.problems import Problem
from segments.http.routing.headers import MIN_POSITION, POSITIONS_MAX, PREFER
from segments.http.routing.query import encode_cursor
from segments.settings import HttpSettings

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6})\"?", re.ASCII)
_POSITION = re.compile(r"\d{1,5}:\d{1,18}", re.ASCII)


class Preference(NamedTuple):
    """The Prefer header (RFC 7240): how long to wait, and whether to wait at all.

    `explicit`: the client sent the wait, it is not the default.
    """

    wait_s: float
    respond_async: bool
    explicit: bool = False


def user_id(request: web.Request) -> str:
    """The canonical user id in the path. Problem 400 if it is not a user id."""
    try:
        return canonical_user_id(request.match_info["user_id"])
    except ValueError as error:
        raise Problem(400, "invalid", str(error)) from None


def segment(request: web.Request) -> str:
    """The segment name in the path. Problem 400 if it is not a segment name."""
    try:
        return check_segment_name(request.match_info["segment"])
    except ValueError as error:
        raise Problem(400, "invalid", str(error)) from None


def preference(request: web.Request) -> Preference:
    """The Prefer header; a wait beyond the limit is reduced to it."""
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
    """The Segments-Min-Position header: `partition:offset`, separated by commas."""
    text = ",".join(request.headers.getall(MIN_POSITION, ()))
    if MIN_POSITION not in request.headers:
        return []
    partitions = request.app[SERVICES].settings.partitions
    parts = text.split(",")
    stripped = map(str.strip, parts[:POSITIONS_MAX])
    positions = [Position.parse(part) for part in stripped if _POSITION.fullmatch(part)]
    if len(positions) != len(parts) or any(p.partition >= partitions for p in positions):
        raise Problem(
            400,
            "invalid",
            f"{MIN_POSITION} must be partition:offset with a partition below {partitions}; "
            f"at most {POSITIONS_MAX}, separated by commas",
        )
    return positions


def page(
    request: web.Request,
    items: list[Any],
    place: list[Any] | None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A page of a list; `place` is where the next page begins, None on the last one."""
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
    """A JSON response."""
    return web.Response(
        body=orjson.dumps(value),
        status=status,
        headers=headers,
        content_type=JSON_CONTENT_TYPE,
    )


def location(collection: str, name: str) -> str:
    """The path of an item of a collection, with its name percent-encoded."""
    return f"{collection}/{quote(name, safe='')}"


def public_url(request: web.Request, http: HttpSettings) -> str:
    """The base URL for clients: `http.public_url`, or the one of this request."""
    return (http.public_url or f"{request.scheme}://{request.host}").rstrip("/")
