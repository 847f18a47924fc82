"""Commands: what other services ask for."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)

from segments.contracts.auto import Auto
from segments.contracts.names import Actor, CommandId, SegmentName, UserId
from segments.contracts.times import InstantMs, TtlMs

NAMES_PER_COMMAND = 100
DESCRIPTION_MAX_LENGTH = 4_096
# The namespace of derived command ids; fixed for ever, since ids must be the same after a restart.
_DERIVED_IDS = UUID("0f5d6c0e-6f43-5c0a-9f1e-0a6b1d5f8c11")


class _Contract(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Addition(_Contract):
    """A segment to add, with its end: none, after a time to live, or at an instant."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"properties": {end: {"type": "null"}}} for end in ("ttl", "expires_at")]
        }
    )

    segment: SegmentName
    ttl: TtlMs | None = None
    expires_at: InstantMs | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Addition:
        if self.ttl is not None and self.expires_at is not None:
            raise ValueError("give ttl or expires_at, not both")
        return self


class _Command(_Contract):
    id: CommandId | None = None
    actor: Actor | None = None


def _auto_is_never_null(schema: dict[str, Any]) -> None:
    """Absent is not null: `auto` cannot be taken away."""
    schema["properties"]["auto"] = schema["properties"]["auto"]["anyOf"][0]


class SegmentBody(_Contract):
    """What is said about a segment. `auto`: whom it is given to without a command for each."""

    model_config = ConfigDict(json_schema_extra=_auto_is_never_null)

    description: Annotated[str, Field(max_length=DESCRIPTION_MAX_LENGTH)] | None = None
    auto: Auto | None = None

    @model_validator(mode="after")
    def _auto_is_a_rule(self) -> SegmentBody:
        if "auto" in self.model_fields_set and self.auto is None:
            raise ValueError("auto is a rule; it cannot be taken away, delete the segment instead")
        return self


class NewSegmentBody(SegmentBody):
    """A segment to be made."""

    segment: SegmentName

    @model_validator(mode="after")
    def _not_of_itself(self) -> NewSegmentBody:
        _refuse_itself(self.segment, self.auto)
        return self


class CreateSegment(NewSegmentBody, _Command):
    """Make a segment; refused when the name is in use."""

    type: Literal["create_segment"]


class UpdateSegment(SegmentBody, _Command):
    """Change what is said about a segment."""

    type: Literal["update_segment"]
    segment: SegmentName

    @model_validator(mode="after")
    def _not_of_itself(self) -> UpdateSegment:
        _refuse_itself(self.segment, self.auto)
        return self


def _refuse_itself(segment: str, auto: Auto | None) -> None:
    if auto is not None and segment in (*auto.include, *auto.exclude):
        raise ValueError("auto names the segment itself")


class PreviewSegment(_Command):
    """Ask whom a rule would be about now; changes nothing."""

    type: Literal["preview_segment"]
    auto: Auto


class DeleteSegment(_Command):
    """End a segment and every membership in it."""

    type: Literal["delete_segment"]
    segment: SegmentName


class MembershipChange(_Contract):
    """Segments to add to and to remove from one user: 1-100 names, none twice."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [field], "properties": {field: {"minItems": 1}}}
                for field in ("add", "remove")
            ]
        }
    )

    add: list[Addition] = Field(default_factory=list, max_length=NAMES_PER_COMMAND)
    remove: list[SegmentName] = Field(default_factory=list, max_length=NAMES_PER_COMMAND)

    @field_validator(
        "add",
        mode="before",
        json_schema_input_type=Annotated[
            list[SegmentName | Addition], Field(max_length=NAMES_PER_COMMAND)
        ],
    )
    @classmethod
    def _names_to_additions(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [{"segment": item} if isinstance(item, str) else item for item in value]
        return value

    @model_validator(mode="after")
    def _each_name_once(self) -> MembershipChange:
        names = [addition.segment for addition in self.add] + self.remove
        if not 1 <= len(names) <= NAMES_PER_COMMAND:
            raise ValueError(f"add and remove together have 1-{NAMES_PER_COMMAND} names")
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"named more than once: {', '.join(twice)}")
        return self


class ChangeMemberships(MembershipChange, _Command):
    """Add a user to segments and remove it from others, all or nothing."""

    type: Literal["change_memberships"]
    user_id: UserId


Command = Annotated[
    CreateSegment | UpdateSegment | DeleteSegment | PreviewSegment | ChangeMemberships,
    Field(discriminator="type"),
]
COMMAND_TYPES = frozenset(
    {
        "create_segment",
        "update_segment",
        "delete_segment",
        "preview_segment",
        "change_memberships",
    }
)
COMMANDS: TypeAdapter[
    CreateSegment | UpdateSegment | DeleteSegment | PreviewSegment | ChangeMemberships
] = TypeAdapter(Command)


def derived_command_id(topic: str, partition: int, offset: int) -> str:
    """The id of a command that came without one: the same at every redelivery."""
    return str(uuid5(_DERIVED_IDS, f"{topic}:{partition}:{offset}"))


def key_of(
    command: CreateSegment | UpdateSegment | DeleteSegment | PreviewSegment | ChangeMemberships,
    command_id: str,
) -> str:
    """The key that keeps the commands of one user, or on one segment, in order."""
    if isinstance(command, ChangeMemberships):
        return command.user_id
    return command_id if isinstance(command, PreviewSegment) else command.segment
