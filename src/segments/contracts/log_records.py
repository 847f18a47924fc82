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
from segments.contracts.log import BUCKETS
from segments.contracts.names import Actor, CommandId, SegmentName

UserCount = Annotated[int, Field(ge=0)]
Partition = Annotated[int, Field(ge=0)]
TopicId = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="Kafka's UUID of a topic")]
PlaceInOrder = tuple[
    Annotated[int, Field(ge=-1, lt=2**64, description="rank")],
    Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="user id without hyphens")],
]


class LogValue(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TraceContext(LogValue):
    """W3C trace context of a command."""

    traceparent: str
    tracestate: str | None = None


class LogRule(LogValue):
    """Rule of a segment: exactly one of `ppm` (parts per million) and `count`."""

    ppm: Annotated[int, Field(gt=0, le=WHOLE_PPM)] | None
    count: Annotated[int, Field(ge=1, le=COUNT_MAX)] | None
    include: list[SegmentName]
    exclude: list[SegmentName]
    accounts: list[AutoAccount]
    ttl_ms: Annotated[int, Field(ge=1)] | None
    newcomers: bool


class KnownRuleRecord(LogValue):
    """Rule of a segment and the place up to which new users join, if any do."""

    rule: LogRule
    threshold: PlaceInOrder | None


class DefineRecord(Definition):
    """Definition sent by a segment's home shard to every shard, and the command behind it."""

    command_id: CommandId
    actor: Actor | None
    known: KnownRuleRecord | None = None
    trace: TraceContext | None = None


class UserRecord(LogValue):
    """State of a user's account. `refresh`: topic id, partition and offset of its refresh."""

    user_id: UserIdText
    account: Literal["active", "blocked", "deleted"]
    version: int | None
    refresh: tuple[TopicId, Partition, Annotated[int, Field(ge=0, description="offset")]]


class TickRecord(LogValue):
    """Advances the log time; has no fields."""


class _RoundRecord(LogValue):
    segment: SegmentName
    generation: Annotated[int, Field(ge=1)]
    round: Annotated[int, Field(ge=1)]


class SegmentSurvey(_RoundRecord):
    """Request to count the users eligible for a segment."""

    rule: LogRule


class PreviewSurvey(LogValue):
    """Request to count the users eligible under a previewed rule. `preview`: the command's id."""

    preview: CommandId
    rule: LogRule


class SurveyRecord(RootModel[SegmentSurvey | PreviewSurvey]):
    """Request to count the users of this shard that are eligible under a rule."""


class SegmentSurveyed(_RoundRecord):
    """Counts of a shard. `histogram`: candidates by the first 12 bits of their rank."""

    partition: Partition
    eligible: UserCount
    members: UserCount
    histogram: Annotated[list[UserCount], Field(min_length=BUCKETS, max_length=BUCKETS)]


class PreviewSurveyed(LogValue):
    """Count of a shard for a preview."""

    preview: CommandId
    partition: Partition
    eligible: UserCount


class SurveyedRecord(RootModel[SegmentSurveyed | PreviewSurveyed]):
    """Counts of a shard, for a segment or a preview."""


class RefineRecord(_RoundRecord):
    """Request to list the candidates in one bucket of the rank order."""

    bucket: Annotated[int, Field(ge=0, lt=BUCKETS)]


class RefinedRecord(_RoundRecord):
    """Places of a shard's candidates in that bucket."""

    partition: Partition
    places: list[PlaceInOrder]


class SelectRecord(_RoundRecord):
    """Assigns the segment to all candidates up to the place `chosen`."""

    chosen: PlaceInOrder | None
    threshold: PlaceInOrder | None
    command_id: CommandId
    actor: Actor | None
    trace: TraceContext | None = None


class SelectedRecord(_RoundRecord):
    """Number of users a shard assigned the segment to, and of those it had to skip."""

    partition: Partition
    assigned: UserCount
    skipped: UserCount
