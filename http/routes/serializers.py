"""Response bodies: the contracts' fields, with timestamps in RFC 3339."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from segments.contracts.times import to_rfc3339
from segments.http.context import Services
from segments.http.problems import Problem

# Rejections that are 404 if they concern the segment in the path.
_NOT_FOUND = frozenset({"segment_unknown"})


def definition(services: Services, stored: dict[str, Any]) -> dict[str, Any]:
    """A definition with the size of its segment."""
    key = (stored["segment"], stored["generation"])
    shown = stored | {
        "created_at": to_rfc3339(stored["created_at"]),
        "size": services.view.size(*key),
    }
    if stored["auto"] is not None:
        shown["auto"] = _rule(stored["auto"]) | _progress(services, stored, key)
    return shown


def _rule(auto: dict[str, Any]) -> dict[str, Any]:
    ttl_ms = auto["ttl_ms"]
    names = ("percent", "count", "include", "exclude", "accounts", "newcomers", "threshold")
    return {name: auto[name] for name in names} | {
        "ttl": None if ttl_ms is None else f"PT{Decimal(ttl_ms) / 1000:f}S"
    }


def _progress(services: Services, stored: dict[str, Any], key: tuple[str, int]) -> dict[str, Any]:
    """`assigned` grows while the segment is being assigned, and is final afterwards."""
    auto = stored["auto"]
    so_far = services.view.chosen.get(key, 0)
    return {
        "target": auto["target"],
        "assigned": so_far if stored["state"] == "assigning" else auto["assigned"],
        "skipped": auto["skipped"],
    }


def rejection(result: dict[str, Any], *, segment: str | None = None) -> Problem:
    """The problem for a rejected command. `segment` is the segment in the path, if any.

    409 if the name is in use or the segment is being assigned, 404 if the segment in the path does
    not exist, 422 otherwise.
    """
    error = result["error"]
    code = error["code"]
    status = 422
    if code in ("segment_exists", "assigning"):
        status = 409
    elif code in _NOT_FOUND and segment is not None:
        status = 404
    extra = {"command_id": result["command_id"], "position": result["position"]}
    if error.get("segments") is not None:
        extra["segments"] = error["segments"]
    return Problem(status, code, error["detail"], extra=extra)
