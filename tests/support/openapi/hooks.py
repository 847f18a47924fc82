"""What schemathesis must know that no document says; named in schemathesis.toml."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis import Case, GenerationMode, HookContext, SerializationContext

from segments.contracts.names import check_segment_name
from segments.http.routing.query import encode_cursor

CURSORS: dict[str, list[Any]] = {
    "/v1/segments": ["a"],
    "/v1/segments/{segment}/users": [1, "0" * 32],
    "/v1/users/{user_id}/history": [1_700_000_000_000, 0, 0],
    "/v1/reports/jobs": [1],
}
"""A place in each list. No client makes one up."""


@schemathesis.serializer("application/x-ndjson", "text/csv")
def as_text(_context: SerializationContext, value: Any) -> bytes:
    """Text goes as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Let nobody wait long, and good requests name what this deployment has."""
    headers: Any = case.headers or {}
    query, path = case.query or {}, case.path_parameters or {}
    if "Prefer" in headers:
        headers["Prefer"] = "wait=1"
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if "Idempotency-Key" in headers:
        # Of one command: who uses it for others as well is told the result of any.
        headers["Idempotency-Key"] = str(uuid4())
    if "Segments-Min-Position" in headers:
        headers["Segments-Min-Position"] = "0:0"
    if "Content-Encoding" in headers:
        # A body that is not packed.
        headers["Content-Encoding"] = "identity"
    if "cursor" in query:
        query["cursor"] = encode_cursor(CURSORS[case.operation.path])
    if "timezone" in query:
        query["timezone"] = "Europe/Berlin"
    for given in (query, path):
        if "segment" in given and not _is_name(given["segment"]):
            given["segment"] = "newsletter"


def _is_name(text: str) -> bool:
    """No pattern that every reader of schemas understands says what a letter is."""
    try:
        check_segment_name(text)
    except ValueError:
        return False
    return True
