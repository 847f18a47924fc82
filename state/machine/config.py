"""Inputs of the state machine."""

from __future__ import annotations

from typing import Any, NamedTuple


class Config(NamedTuple):
    """Settings of the machine; they must be equal in every process, or replays differ."""

    partition: int
    partitions: int
    accept_unknown_users: bool = True
    segments_per_user: int = 2_000
    segments: int = 100_000
    parked_per_user: int = 64
    park_ms: int = 5_000
    remembered_ids: int = 64
    job_slice: int = 1_000


class LogRecord(NamedTuple):
    """A decoded record. `source` = (`topic id:partition`, offset) or None; instants in ms."""

    type: str
    value: dict[str, Any]
    offset: int
    append_time: int
    source: tuple[str, int] | None = None
