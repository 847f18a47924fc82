"""Response bodies of the service itself: health, the user replica, problems."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from segments.contracts.events import AccountState
from segments.contracts.responses.common import (
    EXAMPLE_USER_ID,
    CanonicalId,
    Count,
    Instant,
    LogPosition,
    ResponseBody,
    example,
)


class Alive(ResponseBody):
    """The process is serving requests."""

    model_config = example({"status": "alive"})

    status: Literal["alive"]


class Checks(ResponseBody):
    """`ok`, or the reason why a check fails."""

    feed: str
    view: str
    history: str


class PartitionState(ResponseBody):
    """Position and staleness of the view for one shard."""

    position: LogPosition
    staleness_ms: Count


class Readiness(ResponseBody):
    """Whether responses are complete and fresh; failed checks, or all details with `verbose`."""

    model_config = example({"status": "ready"})

    status: Literal["ready", "not_ready"]
    checks: Checks | None = None
    partitions: dict[str, PartitionState] | None = None


class UserState(ResponseBody):
    """State of a user in the replica."""

    model_config = example({"user_id": EXAMPLE_USER_ID, "state": "active"})

    user_id: CanonicalId
    state: AccountState


class LineError(ResponseBody):
    """A rejected line of an import."""

    line: Annotated[int, Field(ge=1)]
    field: str
    detail: str


class Imported(ResponseBody):
    """Outcome of an import; `errors` lists the first 100 rejected lines."""

    model_config = example(
        {
            "accepted": 1,
            "refused": 1,
            "errors": [{"line": 3, "field": "user_id", "detail": "a user id must be a UUID"}],
        }
    )

    accepted: Count
    refused: Count
    errors: list[LineError]


class FieldError(ResponseBody):
    """An invalid field; `line` if the body has several."""

    field: str
    detail: str
    line: Annotated[str | int, Field(description="line number, from 1")] | None = None


class ProblemDetails(BaseModel):
    """An error (RFC 9457). `code` is a stable identifier; some problems have extra members."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Annotated[str, Field(pattern=r"^urn:segments:problem:[a-z0-9_]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: str
    errors: list[FieldError] | None = None
    command_id: str | None = None
    position: LogPosition | None = None
    segments: list[str] | None = None
    complete_until: Instant | None = None
