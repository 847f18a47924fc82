"""Commands: one class per type, with its key and its record in the shard log.

A new type is a class here and a member of `Command`; router, HTTP, CLI and schemas follow.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args
from uuid import UUID, uuid5

from pydantic import Field, TypeAdapter, model_validator

from segments.contracts import log
from segments.contracts.auto import Auto
from segments.contracts.command_bodies import (
    MembershipChange,
    NewSegmentBody,
    SegmentBody,
    StrictModel,
    reject_self_reference,
)
from segments.contracts.documents import UserIdText
from segments.contracts.log_records import LogRule, LogValue, TraceContext
from segments.contracts.names import Actor, CommandId, SegmentName, UserId

# Namespace of derived command ids. Never change it: ids must survive a restart.
_DERIVED_IDS = UUID("0f5d6c0e-6f43-5c0a-9f1e-0a6b1d5f8c11")


class CommandRecord(LogValue):
    """Value of a command's record in the shard log."""

    id: CommandId
    actor: Actor | None = None
    trace: TraceContext | None = None


class BaseCommand(StrictModel):
    """Base of all commands: id, actor, and the record in the shard log."""

    log_type: ClassVar[str]
    log_value: ClassVar[type[CommandRecord]]
    key_field: ClassVar[Literal["user_id", "segment", "id"]]
    examples: ClassVar[tuple[dict[str, Any], ...]]
    """Values on segments.commands, without `type`; their log records are examples too."""

    id: CommandId | None = None
    actor: Actor | None = None

    def routing_key(self, command_id: str) -> str:
        """The Kafka key, which keeps the commands of one user or segment in order."""
        key: str | None = getattr(self, self.key_field)
        return key or command_id

    def log_record(
        self, command_id: str, trace: dict[str, str] | None = None
    ) -> tuple[str, str, dict[str, Any]]:
        """(type, key, value) of the record; the command's own id takes precedence."""
        value: dict[str, Any] = {"id": self.id or command_id}
        if trace is not None:
            value["trace"] = trace
        if self.actor is not None:
            value["actor"] = self.actor
        value.update(self.log_fields())
        return self.log_type, self.routing_key(value["id"]), value

    def log_fields(self) -> dict[str, Any]:
        """The fields of the record's value that are specific to the type."""
        raise NotImplementedError


class CreateRecord(CommandRecord):
    """Value of a `create` record."""

    segment: SegmentName
    description: str | None
    auto: LogRule | None = None


class CreateSegment(NewSegmentBody, BaseCommand):
    """Create a segment; rejected if the name is in use."""

    log_type = log.CREATE
    log_value = CreateRecord
    key_field = "segment"
    examples = (
        {"id": "s-1", "segment": "newsletter"},
        {
            "id": "s-2",
            "segment": "tenth",
            "auto": {"percent": 12.5, "include": ["beta"], "newcomers": True, "ttl": "P30D"},
        },
    )

    type: Literal["create_segment"]

    def log_fields(self) -> dict[str, Any]:
        return {"segment": self.segment, **_rule(self.auto), "description": self.description}


class UpdateRecord(CommandRecord):
    """Value of an `update` record; absent fields keep their values."""

    segment: SegmentName
    description: str | None = None
    auto: LogRule | None = None


class UpdateSegment(SegmentBody, BaseCommand):
    """Update the description or the rule of a segment."""

    log_type = log.UPDATE
    log_value = UpdateRecord
    key_field = "segment"
    examples = ({"id": "s-3", "segment": "tenth", "auto": {"percent": 25}},)

    type: Literal["update_segment"]
    segment: SegmentName

    @model_validator(mode="after")
    def _not_of_itself(self) -> UpdateSegment:
        reject_self_reference(self.segment, self.auto)
        return self

    def log_fields(self) -> dict[str, Any]:
        fields = {"segment": self.segment, **_rule(self.auto)}
        if "description" in self.model_fields_set:
            fields["description"] = self.description
        return fields


def _rule(auto: Auto | None) -> dict[str, Any]:
    return {} if auto is None else {"auto": auto.rule()}


class DeleteRecord(CommandRecord):
    """Value of a `delete` record."""

    segment: SegmentName


class DeleteSegment(BaseCommand):
    """Delete a segment and all of its memberships."""

    log_type = log.DELETE
    log_value = DeleteRecord
    key_field = "segment"
    examples = ({"id": "s-4", "segment": "newsletter", "actor": "ann"},)

    type: Literal["delete_segment"]
    segment: SegmentName

    def log_fields(self) -> dict[str, Any]:
        return {"segment": self.segment}


class PreviewRecord(CommandRecord):
    """Value of a `preview` record."""

    auto: LogRule


class PreviewSegment(BaseCommand):
    """Count the users that a rule would select now; changes nothing."""

    log_type = log.PREVIEW
    log_value = PreviewRecord
    key_field = "id"
    examples = ({"id": "p-1", "auto": {"percent": 5}},)

    type: Literal["preview_segment"]
    auto: Auto

    def log_fields(self) -> dict[str, Any]:
        return {"auto": self.auto.rule()}


class ChangeRecord(CommandRecord):
    """Value of a `change` record. `add`: segment, and TTL or expiry (ms), or neither."""

    user_id: UserIdText
    add: list[tuple[SegmentName, int | None, int | None]]
    remove: list[SegmentName]


class ChangeMemberships(MembershipChange, BaseCommand):
    """Add a user to segments and remove it from others, atomically."""

    log_type = log.CHANGE
    log_value = ChangeRecord
    key_field = "user_id"
    examples = (
        {
            "id": "order-4711",
            "actor": "shop",
            "user_id": "cd613e30-d8f1-4adf-91b7-584a2265b1f5",
            "add": ["beta", {"segment": "trial", "ttl": "P7D"}],
            "remove": ["newsletter"],
        },
    )

    type: Literal["change_memberships"]
    user_id: UserId

    def log_fields(self) -> dict[str, Any]:
        return {
            "user_id": self.user_id,
            "add": [[a.segment, a.ttl, a.expires_at] for a in self.add],
            "remove": self.remove,
        }


Command = Annotated[
    CreateSegment | UpdateSegment | DeleteSegment | PreviewSegment | ChangeMemberships,
    Field(discriminator="type"),
]
COMMAND_ADAPTER: TypeAdapter[BaseCommand] = TypeAdapter(Command)
"""Parses a command of any type."""
COMMAND_TYPES: dict[str, type[BaseCommand]] = {
    get_args(command.model_fields["type"].annotation)[0]: command
    for command in get_args(get_args(Command)[0])
}


def derived_command_id(topic: str, partition: int, offset: int) -> str:
    """The id of a command without one: the same on every redelivery."""
    return str(uuid5(_DERIVED_IDS, f"{topic}:{partition}:{offset}"))
