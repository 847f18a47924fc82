"""Hooks for what the OpenAPI document cannot express; named in schemathesis.toml."""

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
"""A place in each list: cursors cannot be generated from their schema."""


@schemathesis.serializer("application/x-ndjson", "text/csv")
def as_text(_context: SerializationContext, value: Any) -> bytes:
    """Send text unchanged."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Shorten waits, and let valid requests refer to data of this deployment."""
    headers: Any = case.headers or {}
    query, path = case.query or {}, case.path_parameters or {}
    if "Prefer" in headers:
        headers["Prefer"] = "wait=1"
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if "Idempotency-Key" in headers:
        # Unique per request: a repeated key returns the result of the first command.
        headers["Idempotency-Key"] = str(uuid4())
    if "Segments-Min-Position" in headers:
        headers["Segments-Min-Position"] = "0:0"
    if "Content-Encoding" in headers:
        # The bodies are not compressed.
        headers["Content-Encoding"] = "identity"
    if "cursor" in query:
        query["cursor"] = encode_cursor(CURSORS[case.operation.path])
    if "timezone" in query:
        query["timezone"] = "Europe/Berlin"
    for parameters in (query, path):
        if "segment" in parameters and not _is_name(parameters["segment"]):
            parameters["segment"] = "newsletter"


def _is_name(text: str) -> bool:
    """A portable schema pattern cannot express which characters are letters."""
    try:
        check_segment_name(text)
    except ValueError:
        return False
    return True
