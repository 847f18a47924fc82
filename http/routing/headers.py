"""Request and response headers: their names, schemas and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import hdrs

from segments.contracts.names import COMMAND_ID_MAX_LENGTH

POSITION = "Segments-Position"
STALENESS = "Segments-Staleness-Ms"
MIN_POSITION = "Segments-Min-Position"
COMPLETE_UNTIL = "Segments-Complete-Until"
ROW_COUNT = "Segments-Row-Count"
IDEMPOTENCY_KEY = "Idempotency-Key"
PREFER = "Prefer"
IF_NONE_MATCH = hdrs.IF_NONE_MATCH
CONTENT_ENCODING = hdrs.CONTENT_ENCODING
FRESH = (POSITION, STALENESS)
"""The headers that say how fresh a response is."""
POSITIONS_MAX = 64
"""Maximum number of positions in a request or response."""

_POSITIONS = r"^[0-9]{1,5}:[0-9]{1,18}( *, *[0-9]{1,5}:[0-9]{1,18})*$"


class Header(NamedTuple):
    """Description, JSON schema and example of a header."""

    description: str
    schema: Mapping[str, Any]
    example: str | int


def _text(**schema: Any) -> dict[str, Any]:
    return {"type": "string", **schema}


REQUEST_HEADERS: Mapping[str, Header] = {
    PREFER: Header(
        "`wait=N`: seconds to wait for a result, a position or the history; `respond-async`: a "
        "write is answered with 202 at once (RFC 7240). Other preferences are ignored.",
        _text(),
        "wait=10",
    ),
    MIN_POSITION: Header(
        f"Up to {POSITIONS_MAX} positions, separated by commas: wait for the view to reach them, "
        "for as long as `Prefer: wait` says; 503 `stale` if it does not.",
        _text(pattern=_POSITIONS),
        "3:1042",
    ),
    IDEMPOTENCY_KEY: Header(
        "The id of the write's command: repeating a key returns the first result and changes "
        "nothing.",
        _text(minLength=1, maxLength=COMMAND_ID_MAX_LENGTH),
        "order-4711",
    ),
    hdrs.IF_NONE_MATCH: Header(
        "The ETag of the response that the client has: 304 if it is unchanged.",
        _text(),
        '"800741e4e11ec73665f81176"',
    ),
    hdrs.CONTENT_ENCODING: Header(
        "`gzip` if the body is compressed.", _text(enum=["gzip", "identity"]), "identity"
    ),
}
RESPONSE_HEADERS: Mapping[str, Header] = {
    POSITION: Header(
        "Reads: `partition:offset` up to which the view has applied the shard's log, separated by "
        "commas if the response comes from several shards. Writes: the position from which reads "
        "include the write.",
        _text(pattern=r"^\d+:\d+(,\d+:\d+)*$"),
        "3:1042",
    ),
    STALENESS: Header(
        "Age of the view of the shard in milliseconds; the oldest of several shards.",
        {"type": "integer", "minimum": 0},
        595,
    ),
    COMPLETE_UNTIL: Header(
        "Timestamp up to which the history in the response is complete.",
        _text(format="date-time"),
        "2026-11-24T22:17:45.625Z",
    ),
    ROW_COUNT: Header("Number of rows in the report.", {"type": "integer", "minimum": 0}, 459),
    "ETag": Header("For `If-None-Match`.", _text(), '"800741e4e11ec73665f81176"'),
    hdrs.LINK: Header(
        'The next page of a list, `rel="next"`.',
        _text(),
        '</v1/segments?cursor=WyJuZXdzbGV0dGVyIl0>; rel="next"',
    ),
    hdrs.LOCATION: Header(
        "The created resource, or where to get the result.", _text(), "/v1/commands/order-4711"
    ),
    hdrs.RETRY_AFTER: Header(
        "Seconds to wait before retrying.", {"type": "integer", "minimum": 0}, 1
    ),
    hdrs.CONTENT_DISPOSITION: Header(
        "Suggested file name.", _text(), 'attachment; filename="2026-11.csv"'
    ),
    hdrs.CACHE_CONTROL: Header("Whether the response may be cached.", _text(), "no-store"),
    hdrs.WWW_AUTHENTICATE: Header(
        "The required credentials (RFC 6750).", _text(), 'Bearer realm="segments"'
    ),
}
