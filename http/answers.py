"""Bodies of answers: the contracts' fields, with instants as RFC 3339."""

from __future__ import annotations

from typing import Any

from segments.contracts.times import to_rfc3339
from segments.http.problems import Problem
from segments.http.services import Services

# What a rejection means for the resource that was addressed; everything else is 422.
_NOT_FOUND = frozenset({"segment_unknown"})


def definition(services: Services, stored: dict[str, Any]) -> dict[str, Any]:
    """A definition with the size of its segment."""
    return stored | {
        "created_at": to_rfc3339(stored["created_at"]),
        "size": services.view.size(stored["segment"], stored["generation"]),
    }


def rejection(result: dict[str, Any], *, addressed: str | None = None) -> Problem:
    """The problem of a rejected command. `addressed` is the segment of the path, if there is one.

    409 when the name is in use, 404 when the addressed segment is unknown, 422 otherwise.
    """
    error = result["error"]
    code = error["code"]
    status = 422
    if code == "segment_exists":
        status = 409
    elif code in _NOT_FOUND and addressed is not None:
        status = 404
    extra = {"command_id": result["command_id"], "position": result["position"]}
    if error.get("segments") is not None:
        extra["segments"] = error["segments"]
    return Problem(status, code, error["detail"], extra=extra)
