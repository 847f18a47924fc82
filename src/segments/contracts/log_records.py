"""Values of the shard log's records as models, for schemas and tests; those of commands are in
`segments.contracts.commands`.

`segments.contracts.log` lists the types. The state machine reads plain dictionaries. Instants and
durations are in milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from segments.contracts.auto import COUNT_MAX, WHOLE_PPM, AutoAccount
from segments.contracts.documents import Definition, UserIdText
from segments.contracts.names import Actor, CommandId, SegmentName

UserCount = Annotated[int, Field(ge=0)]
Partition = Annotated[int, Field(ge=0)]
TopicId = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="Kafka's UUID of a topic")]
PlaceInOrder = tuple[
    Annotated[int, Field(ge=-1, lt=2**64, description="rank")],
    Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="user id without hyphens")],
]
BUCKETS = 4096


class LogValue(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TraceContext(LogValue):
    """The trace context (W3C) that a command came with."""

    traceparent: str
    tracestate: str | None = None


class LogRule(LogValue):
    """The rule of an automatic segment: exactly one of `ppm` (parts per million) and `count`."""

    ppm: Annotated[int, Field(gt=0, le=WHOLE_PPM)] | None
    count: Annotated[int, Field(ge=1, le=COUNT_MAX)] | None
    include: list[SegmentName]
    exclude: list[SegmentName]
    accounts: list[AutoAccount]
    ttl_ms: Annotated[int, Field(ge=1)] | None
    newcomers: bool


class KnownRuleRecord(LogValue):
    """The rule of a segment, and up to which place newcomers join, if any do."""

    rule: LogRule
    threshold: PlaceInOrder | None


class DefineRecord(Definition):
    """What the home of a segment tells every shard, with the command behind it."""

    command_id: CommandId
    actor: Actor | None
    known: KnownRuleRecord | None = None
    trace: TraceContext | None = None


class UserRecord(LogValue):
    """The state of a user's account. `refresh`: the refresh it answers, by topic and place."""

    user_id: UserIdText
    account: Literal["active", "blocked", "deleted"]
    version: int | None
    refresh: tuple[TopicId, Partition, Annotated[int, Field(ge=0, description="offset")]]


class TickRecord(LogValue):
    """Time goes on."""


class _RoundRecord(LogValue):
    segment: SegmentName
    generation: Annotated[int, Field(ge=1)]
    round: Annotated[int, Field(ge=1)]


class SegmentSurvey(_RoundRecord):
    """Who could be given a segment?"""

    rule: LogRule


class PreviewSurvey(LogValue):
    """How many does a previewed rule let through? `preview` is the command's id."""

    preview: CommandId
    rule: LogRule


class SurveyRecord(RootModel[SegmentSurvey | PreviewSurvey]):
    """How many users of this shard does a rule let through?"""


class SegmentSurveyed(_RoundRecord):
    """Counts of a shard; `histogram` by the first 12 bits of the rank."""

    partition: Partition
    eligible: UserCount
    members: UserCount
    histogram: Annotated[list[UserCount], Field(min_length=BUCKETS, max_length=BUCKETS)]


class PreviewSurveyed(LogValue):
    """The count of a shard for a preview."""

    preview: CommandId
    partition: Partition
    eligible: UserCount


class SurveyedRecord(RootModel[SegmentSurveyed | PreviewSurveyed]):
    """How many a shard has counted."""


class RefineRecord(_RoundRecord):
    """Who stands in this part of the order?"""

    bucket: Annotated[int, Field(ge=0, lt=BUCKETS)]


class RefinedRecord(_RoundRecord):
    """The places of a shard's candidates in that part."""

    partition: Partition
    places: list[PlaceInOrder]


class SelectRecord(_RoundRecord):
    """From here on all candidates up to `chosen` have the segment."""

    chosen: PlaceInOrder | None
    threshold: PlaceInOrder | None
    command_id: CommandId
    actor: Actor | None
    trace: TraceContext | None = None


class SelectedRecord(_RoundRecord):
    """How many a shard has written, and how many could not be given the segment."""

    partition: Partition
    assigned: UserCount
    skipped: UserCount
