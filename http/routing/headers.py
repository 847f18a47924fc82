"""The headers of requests and answers: their names, and what the OpenAPI document says of them."""

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
"""How fresh an answer is."""
POSITIONS_MAX = 64
"""Positions that a request may name, and that an answer gives."""

_POSITIONS = r"^[0-9]{1,5}:[0-9]{1,18}( *, *[0-9]{1,5}:[0-9]{1,18})*$"


class Header(NamedTuple):
    """What a header means, the JSON schema of its value, and an example."""

    meaning: str
    schema: Mapping[str, Any]
    example: str | int


def _text(**schema: Any) -> dict[str, Any]:
    return {"type": "string", **schema}


REQUEST: Mapping[str, Header] = {
    PREFER: Header(
        "`wait=N`: seconds to wait for a result, a position or the history; `respond-async`: a "
        "write is answered with 202 at once (RFC 7240). Whatever else it says is ignored.",
        _text(),
        "wait=10",
    ),
    MIN_POSITION: Header(
        f"Up to {POSITIONS_MAX} positions with commas: wait until the view has them, within "
        "`Prefer: wait`, else 503 `stale`.",
        _text(pattern=_POSITIONS),
        "3:1042",
    ),
    IDEMPOTENCY_KEY: Header(
        "The id of the write's command: the same key again gives the first outcome and changes "
        "nothing.",
        _text(minLength=1, maxLength=COMMAND_ID_MAX_LENGTH),
        "order-4711",
    ),
    hdrs.IF_NONE_MATCH: Header(
        "The ETag of the answer that the client has: 304 when it is as it was.",
        _text(),
        '"800741e4e11ec73665f81176"',
    ),
    hdrs.CONTENT_ENCODING: Header(
        "`gzip` when the body is packed.", _text(enum=["gzip", "identity"]), "identity"
    ),
}
ANSWER: Mapping[str, Header] = {
    POSITION: Header(
        "Reads: `partition:offset` of the shard's log up to which the view has applied it, with "
        "commas where the answer comes from several shards. Writes: the position from which on a "
        "read sees the write.",
        _text(pattern=r"^\d+:\d+(,\d+:\d+)*$"),
        "3:1042",
    ),
    STALENESS: Header(
        "How old the view of the shard is, in milliseconds; of several shards the oldest.",
        {"type": "integer", "minimum": 0},
        595,
    ),
    COMPLETE_UNTIL: Header(
        "The instant up to which the history of the answer is complete.",
        _text(format="date-time"),
        "2026-11-24T22:17:45.625Z",
    ),
    ROW_COUNT: Header("How many rows a report has.", {"type": "integer", "minimum": 0}, 459),
    "ETag": Header("For `If-None-Match`.", _text(), '"800741e4e11ec73665f81176"'),
    hdrs.LINK: Header(
        'The next page of a list, `rel="next"`.',
        _text(),
        '</v1/segments?cursor=WyJuZXdzbGV0dGVyIl0>; rel="next"',
    ),
    hdrs.LOCATION: Header(
        "What was made, or where to ask for the result.", _text(), "/v1/commands/order-4711"
    ),
    hdrs.RETRY_AFTER: Header(
        "Seconds after which it may go better.", {"type": "integer", "minimum": 0}, 1
    ),
    hdrs.CONTENT_DISPOSITION: Header(
        "A name for the file.", _text(), 'attachment; filename="2026-11.csv"'
    ),
    hdrs.CACHE_CONTROL: Header("Whether the answer may be kept.", _text(), "no-store"),
    hdrs.WWW_AUTHENTICATE: Header(
        "What credentials are asked for (RFC 6750).", _text(), 'Bearer realm="segments"'
    ),
}
