"""Request bodies that HTTP and the commands share: membership changes and segments."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from segments.contracts.auto import Auto
from segments.contracts.names import SegmentName
from segments.contracts.times import InstantMs, TtlMs

NAMES_PER_COMMAND = 100
DESCRIPTION_MAX_LENGTH = 4_096


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Addition(StrictModel):
    """A segment to add: without expiry, or with a time to live or an expiry time."""

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
            raise ValueError("ttl and expires_at are mutually exclusive")
        return self


def _auto_is_never_null(schema: dict[str, Any]) -> None:
    """`auto` may be absent but never null: a rule cannot be removed."""
    schema["properties"]["auto"] = schema["properties"]["auto"]["anyOf"][0]


class SegmentBody(StrictModel):
    """Description and rule of a segment. `auto`: the rule that assigns it to users."""

    model_config = ConfigDict(json_schema_extra=_auto_is_never_null)

    description: Annotated[str, Field(max_length=DESCRIPTION_MAX_LENGTH)] | None = None
    auto: Auto | None = None

    @model_validator(mode="after")
    def _auto_is_a_rule(self) -> SegmentBody:
        if "auto" in self.model_fields_set and self.auto is None:
            raise ValueError("auto must be a rule: to remove a rule, delete the segment")
        return self


class NewSegmentBody(SegmentBody):
    """A segment to create."""

    segment: SegmentName

    @model_validator(mode="after")
    def _not_of_itself(self) -> NewSegmentBody:
        reject_self_reference(self.segment, self.auto)
        return self


def reject_self_reference(segment: str, auto: Auto | None) -> None:
    if auto is not None and segment in (*auto.include, *auto.exclude):
        raise ValueError("auto refers to the segment itself")


class MembershipChange(StrictModel):
    """Segments to add a user to and to remove it from: 1-100 distinct names."""

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
            raise ValueError(f"add and remove must have 1-{NAMES_PER_COMMAND} names in total")
        if len(set(names)) != len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"repeated names: {', '.join(repeated)}")
        return self
