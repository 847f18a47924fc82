"""What HTTP answers with about itself: health, users by hand, problems."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from segments.contracts.events import AccountState
from segments.contracts.responses.common import (
    EXAMPLE_USER_ID,
    CanonicalId,
    Count,
    Instant,
    PositionText,
    ResponseBody,
    example,
)


class Alive(ResponseBody):
    """The process serves requests."""

    model_config = example({"status": "alive"})

    status: Literal["alive"]


class Checks(ResponseBody):
    """`ok`, or what is amiss."""

    feed: str
    view: str
    history: str


class PartitionState(ResponseBody):
    """How far the view is in a shard."""

    position: PositionText
    staleness_ms: Count


class Readiness(ResponseBody):
    """Whether answers are complete and fresh enough; what is amiss; all with `verbose`."""

    model_config = example({"status": "ready"})

    status: Literal["ready", "not_ready"]
    checks: Checks | None = None
    partitions: dict[str, PartitionState] | None = None


class UserState(ResponseBody):
    """The replica's state of a user."""

    model_config = example({"user_id": EXAMPLE_USER_ID, "state": "active"})

    user_id: CanonicalId
    state: AccountState


class LineError(ResponseBody):
    """A line of an import that was refused."""

    line: Annotated[int, Field(ge=1)]
    field: str
    detail: str


class Imported(ResponseBody):
    """What became of the lines; `errors` names the first 100 refused ones."""

    model_config = example(
        {
            "accepted": 1,
            "refused": 1,
            "errors": [{"line": 3, "field": "user_id", "detail": "a user id is a UUID"}],
        }
    )

    accepted: Count
    refused: Count
    errors: list[LineError]


class FieldError(ResponseBody):
    """A field that is wrong; `line` where the body has many."""

    field: str
    detail: str
    line: Annotated[str | int, Field(description="the number of the line, from 1")] | None = None


class ProblemDetails(BaseModel):
    """An error (RFC 9457). `code` is the machine's word for it; some have further members."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Annotated[str, Field(pattern=r"^urn:segments:problem:[a-z0-9_]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: str
    errors: list[FieldError] | None = None
    command_id: str | None = None
    position: PositionText | None = None
    segments: list[str] | None = None
    complete_until: Instant | None = None
