"""Records of the view's topics as shards write them, and a helper that fills a view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from segments.contracts.topics import PROGRESS_KEY_PREFIX
from segments.state.view.view import View
from segments.state.view.writer import ViewBatch

IDENTITY: dict[str, Any] = {"topics": {"segments.users": "aa"}, "partitions": None}


def opened(folder: Path, identity: dict[str, Any] | None = None) -> View:
    """The view in this folder."""
    return View(folder, IDENTITY if identity is None else identity)


def held(generation: int = 1, expires_at: int | None = None, since: int = 0) -> dict[str, Any]:
    """A membership of a public document."""
    return {
        "since": since,
        "expires_at": expires_at,
        "origin": "command",
        "generation": generation,
    }


def document(user_id: str, segments: dict[str, Any], account: str = "active") -> bytes:
    """A record's value of segments.users."""
    return orjson.dumps(
        {
            "user_id": user_id,
            "account": account,
            "segments": segments,
            "position": "0:1",
            "at": 1,
        }
    )


def definition(
    segment: str, generation: int = 1, *, state: str = "active", position: str = "0:1"
) -> bytes:
    """A record's value of segments.definitions."""
    return orjson.dumps(
        {
            "segment": segment,
            "generation": generation,
            "version": 1,
            "state": state,
            "description": None,
            "created_at": 0,
            "auto": None,
            "position": position,
        }
    )


def marker(log_offset: int, at: int = 0, *, history_rows: int = 0, defined: int = -1) -> bytes:
    """A progress record's value."""
    return orjson.dumps(
        {
            "log_offset": log_offset,
            "log_time": at,
            "at": at,
            "history_rows": history_rows,
            "defined": defined,
        }
    )


def progress_key(partition: int) -> bytes:
    return f"{PROGRESS_KEY_PREFIX}{partition}".encode()


def result(command_id: str, status: str = "applied", position: str | None = "0:1") -> bytes:
    """A record's value of segments.results."""
    return orjson.dumps(
        {
            "command_id": command_id,
            "status": status,
            "error": None,
            "changes": [],
            "position": position,
            "at": "2026-11-24T15:00:00.000Z",
        }
    )


class ViewFiller:
    """Writes to a view: one batch per call, or several records as a batch in a `with` block."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.last = ViewBatch(view)

    def __enter__(self) -> ViewBatch:
        self.last = ViewBatch(self._view)
        return self.last

    def __exit__(self, exception: object, *_: object) -> None:
        if exception is None:
            self.last.write()

    def user(self, user_id: str, segments: dict[str, Any], account: str = "active") -> None:
        with self as batch:
            batch.user(user_id.encode(), document(user_id, segments, account))

    def define(self, segment: str, generation: int = 1, **fields: Any) -> None:
        with self as batch:
            batch.definition(segment.encode(), definition(segment, generation, **fields))

    def mark(self, partition: int, log_offset: int, at: int = 0, **fields: Any) -> list[int]:
        """Write a progress marker; returns the partitions that advanced."""
        with self as batch:
            batch.user(progress_key(partition), marker(log_offset, at, **fields))
        return self.last.advanced

    def result(self, command_id: str, at_ms: int, **fields: Any) -> None:
        with self as batch:
            batch.result(command_id.encode(), result(command_id, **fields), at_ms)
