"""Validation of commands, field by field."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from segments.contracts.commands import (
    COMMAND_ADAPTER,
    ChangeMemberships,
    derived_command_id,
)

USER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
EVERY_TYPE = ["create_segment", "update_segment", "delete_segment", "change_memberships"]


def body(command_type: str = "change_memberships", **fields: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {"type": command_type, "segment": "a"}
    if command_type == "change_memberships":
        defaults = {"type": command_type, "user_id": USER, "add": ["a"]}
    return {name: value for name, value in (defaults | fields).items() if value is not ...}


def parse(document: Any) -> Any:
    """Parse a command after a round trip through JSON, as from Kafka."""
    return COMMAND_ADAPTER.validate_python(orjson.loads(orjson.dumps(document)))


def invalid_fields(document: Any) -> list[str]:
    """The fields that validation reports."""
    with pytest.raises(ValidationError) as caught:
        COMMAND_ADAPTER.validate_python(document)
    return [".".join(map(str, error["loc"][1:])) for error in caught.value.errors()]


def test_change_accepts_every_form_of_addition() -> None:
    change = parse(
        body(
            id="c1",
            actor="shop",
            add=[
                "a",
                {"segment": "b"},
                {"segment": "c", "ttl": "P1D"},
                {"segment": "d", "ttl": 0.5},
                {"segment": "e", "expires_at": "2030-01-01T03:00:00+03:00"},
                {"segment": "f", "ttl": None, "expires_at": None},
            ],
            remove=["g"],
        )
    )
    assert isinstance(change, ChangeMemberships)
    ends = [(a.segment, a.ttl, a.expires_at) for a in change.add]
    assert ends == [
        ("a", None, None),
        ("b", None, None),
        ("c", 86_400_000, None),
        ("d", 500, None),
        ("e", None, 1_893_456_000_000),
        ("f", None, None),
    ]
    assert (change.id, change.actor, change.remove) == ("c1", "shop", ["g"])


@pytest.mark.parametrize("command_type", EVERY_TYPE)
def test_id_and_actor_are_optional(command_type: str) -> None:
    command = parse(body(command_type))
    assert (command.id, command.actor) == (None, None)
    assert parse(body(command_type, id=None, actor=None)) == command


@pytest.mark.parametrize("command_type", EVERY_TYPE)
@pytest.mark.parametrize("field", ["surprise", "Segment", "auto", "ID", "__class__"])
def test_unknown_field_is_rejected(command_type: str, field: str) -> None:
    assert invalid_fields(body(command_type, **{field: 1})) == [field]


@pytest.mark.parametrize("command_type", EVERY_TYPE)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "x" * 129),
        ("id", "a\nb"),
        ("id", 5),
        ("actor", ""),
        ("actor", "x" * 129),
        ("actor", {}),
    ],
)
def test_id_and_actor_are_validated_in_every_command(
    command_type: str, field: str, value: Any
) -> None:
    assert invalid_fields(body(command_type, **{field: value})) == [field]


@pytest.mark.parametrize("command_type", ["create_segment", "update_segment", "delete_segment"])
@pytest.mark.parametrize("value", [..., None, "", "../x", "x" * 129, "a;b", 5, ["a"], {"a": 1}])
def test_segment_command_requires_a_segment_name(command_type: str, value: Any) -> None:
    assert invalid_fields(body(command_type, segment=value)) == ["segment"]


@pytest.mark.parametrize("command_type", ["create_segment", "update_segment"])
def test_description_is_text_of_limited_length(command_type: str) -> None:
    assert parse(body(command_type, description="x" * 4_096)).description == "x" * 4_096
    assert parse(body(command_type, description=None)).description is None
    assert invalid_fields(body(command_type, description="x" * 4_097)) == ["description"]
    assert invalid_fields(body(command_type, description=5)) == ["description"]
    assert invalid_fields(body("delete_segment", description="x")) == ["description"]


def test_update_distinguishes_absent_and_null_description() -> None:
    assert "description" not in parse(body("update_segment")).model_fields_set
    assert "description" in parse(body("update_segment", description=None)).model_fields_set


@pytest.mark.parametrize(
    "command_type",
    [..., None, "", 5, [], "CREATE_SEGMENT", "change", "__init__", "create_segment "],
)
def test_unknown_command_type_is_rejected(command_type: Any) -> None:
    with pytest.raises(ValidationError):
        COMMAND_ADAPTER.validate_python(body(type=command_type))


@pytest.mark.parametrize("document", [None, 5, "x", [], [body()], True, b"{}"])
def test_command_must_be_an_object(document: Any) -> None:
    with pytest.raises(ValidationError):
        COMMAND_ADAPTER.validate_python(document)


@pytest.mark.parametrize(
    ("fields", "invalid"),
    [
        ({"user_id": ...}, ["user_id"]),
        ({"user_id": None}, ["user_id"]),
        ({"user_id": "someone"}, ["user_id"]),
        ({"add": None}, ["add"]),
        ({"add": {"segment": "a"}}, ["add"]),
        ({"add": "a"}, ["add"]),
        ({"add": [None]}, ["add.0"]),
        ({"add": [["a"]]}, ["add.0"]),
        ({"add": [{}]}, ["add.0.segment"]),
        ({"add": [{"segment": 5}]}, ["add.0.segment"]),
        ({"add": ["a", {"segment": "b", "until": 5}]}, ["add.1.until"]),
        ({"add": [{"segment": "a", "ttl": float("nan")}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "a", "ttl": 0}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "a", "ttl": -5}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "a", "ttl": "P101Y"}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "a", "ttl": 101 * 366 * 86_400}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "a", "expires_at": 5}]}, ["add.0.expires_at"]),
        ({"add": [{"segment": "a", "expires_at": "2030-01-01T00:00:00"}]}, ["add.0.expires_at"]),
        ({"remove": ["b", {"segment": "c"}]}, ["remove.1"]),
        ({"remove": "b"}, ["remove"]),
        ({"remove": None}, ["remove"]),
        ({"add": ["", "b;c"], "remove": ["../x"]}, ["add.0.segment", "add.1.segment", "remove.0"]),
        ({"segment": "a"}, ["segment"]),
    ],
)
def test_invalid_change_lists_every_invalid_field(
    fields: dict[str, Any], invalid: list[str]
) -> None:
    assert invalid_fields(body(**fields)) == invalid


def test_ttl_and_expires_at_are_mutually_exclusive() -> None:
    both = {"segment": "a", "ttl": 5, "expires_at": "2030-01-01T00:00:00Z"}
    assert invalid_fields(body(add=[both])) == ["add.0"]


@pytest.mark.parametrize(
    ("add", "remove", "valid"),
    [
        (0, 0, False),
        (1, 0, True),
        (0, 1, True),
        (100, 0, True),
        (0, 100, True),
        (60, 40, True),
        (101, 0, False),
        (0, 101, False),
        (60, 41, False),
    ],
)
def test_change_has_1_to_100_names(add: int, remove: int, valid: bool) -> None:
    change = body(
        add=[f"a{n}" for n in range(add)],
        remove=[f"r{n}" for n in range(remove)],
    )
    if valid:
        assert len(parse(change).add) + len(parse(change).remove) == add + remove
    else:
        assert invalid_fields(change)


@pytest.mark.parametrize(
    ("add", "remove"),
    [
        (["a", "b"], ["a"]),
        (["a", "a"], []),
        ([], ["a", "a"]),
        (["a", {"segment": "a", "ttl": 5}], []),
    ],
)
def test_repeated_segments_are_rejected(add: list[Any], remove: list[str]) -> None:
    with pytest.raises(ValidationError, match="repeated names: a"):
        COMMAND_ADAPTER.validate_python(body(add=add, remove=remove))


def test_segment_names_are_case_sensitive() -> None:
    assert [a.segment for a in parse(body(add=["VIP", "vip"])).add] == ["VIP", "vip"]


@given(st.text(max_size=20), st.integers(0, 99), st.integers(0, 2**40), st.integers(0, 99))
def test_derived_command_id_is_unique_per_record(
    topic: str, partition: int, offset: int, other: int
) -> None:
    derived = derived_command_id(topic, partition, offset)
    assert derived == derived_command_id(topic, partition, offset)
    assert parse(body(id=derived)).id == derived
    assert derived != derived_command_id(topic, partition, offset + 1 + other)
    assert derived != derived_command_id(topic, partition + 1 + other, offset)
