"""Records of the shard log, and models of the records that shards write."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import BaseModel, ValidationError

from segments.contracts import documents
from segments.contracts.commands import COMMAND_ADAPTER
from segments.contracts.events import Refresh, UserEvent
from segments.contracts.log import (
    encode,
    parse_source,
    source_coordinates,
    user_record,
)

USER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
AT = "2026-11-24T06:00:00.123Z"


@pytest.mark.parametrize(
    ("command", "record"),
    [
        (
            {
                "type": "change_memberships",
                "user_id": USER.upper(),
                "add": ["a", {"segment": "b", "ttl": 1}],
            },
            (
                "change",
                USER,
                {
                    "id": "derived",
                    "user_id": USER,
                    "add": [["a", None, None], ["b", 1000, None]],
                    "remove": [],
                },
            ),
        ),
        (
            {"type": "create_segment", "segment": "a", "id": "own", "actor": "me"},
            ("create", "a", {"id": "own", "actor": "me", "segment": "a", "description": None}),
        ),
        (
            {"type": "update_segment", "segment": "a"},
            ("update", "a", {"id": "derived", "segment": "a"}),
        ),
        (
            {"type": "update_segment", "segment": "a", "description": None},
            ("update", "a", {"id": "derived", "segment": "a", "description": None}),
        ),
        (
            {"type": "delete_segment", "segment": "a"},
            ("delete", "a", {"id": "derived", "segment": "a"}),
        ),
    ],
)
def test_command_is_converted_to_a_log_record(command: dict[str, Any], record: Any) -> None:
    found = COMMAND_ADAPTER.validate_python(command).log_record("derived")
    assert found == record
    assert orjson.loads(encode(found[2])) == record[2]
    assert b" " not in encode(found[2])


def test_user_state_is_converted_to_a_log_record() -> None:
    assert user_record(USER, "active", None, ("t", 3, 17)) == {
        "user_id": USER,
        "account": "active",
        "version": None,
        "refresh": ["t", 3, 17],
    }


def test_source_header_round_trips() -> None:
    header = source_coordinates("c0ffee", 12, 1042)
    assert header == "c0ffee:12:1042"
    assert parse_source(header) == ("c0ffee:12", 1042)
    with pytest.raises(ValueError, match="invalid literal"):
        parse_source("c0ffee:12:x")


RESULT: dict[str, Any] = {
    "command_id": "c",
    "status": "applied",
    "error": None,
    "changes": [{"segment": "a", "operation": "add"}],
    "position": "3:17",
    "at": AT,
}
ROW: dict[str, Any] = {
    "user_id": USER,
    "segment": "a",
    "generation": 1,
    "operation": "add",
    "at": AT,
    "cause": "command",
    "command_id": "c",
    "actor": None,
    "expires_at": None,
}
MEMBERSHIP = {"since": 1, "expires_at": None, "origin": "command", "generation": 1}
DOCUMENT: dict[str, Any] = {
    "user_id": USER,
    "account": "active",
    "segments": {"a": MEMBERSHIP},
    "position": "3:17",
    "at": 1,
}
DEFINITION: dict[str, Any] = {
    "segment": "a",
    "generation": 1,
    "version": 1,
    "state": "active",
    "description": None,
    "created_at": 1,
    "auto": None,
    "position": "3:17",
}
MARKER: dict[str, Any] = {
    "log_offset": 17,
    "log_time": 1,
    "at": 1,
    "history_rows": 0,
    "defined": -1,
}
EXAMPLES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (documents.Result, RESULT),
    (documents.HistoryRow, ROW),
    (documents.UserDocument, DOCUMENT),
    (documents.Definition, DEFINITION),
    (documents.ProgressMarker, MARKER),
]


@pytest.mark.parametrize(("model", "example"), EXAMPLES)
def test_document_has_exactly_the_fields_of_its_model(
    model: type[BaseModel], example: dict[str, Any]
) -> None:
    assert model.model_validate(example).model_dump() == example
    with pytest.raises(ValidationError):
        model.model_validate(example | {"surprise": 1})
    for field in example:
        if field == "auto":
            continue
        with pytest.raises(ValidationError):
            model.model_validate({name: v for name, v in example.items() if name != field})


@pytest.mark.parametrize(
    ("model", "example", "field", "value"),
    [
        (documents.Result, RESULT, "status", "done"),
        (documents.Result, RESULT, "error", {"code": "no_such_code", "detail": ""}),
        (documents.Result, RESULT, "changes", [{"segment": "a", "operation": "replace"}]),
        (documents.HistoryRow, ROW, "operation", "expire"),
        (documents.HistoryRow, ROW, "cause", "unknown"),
        (documents.UserDocument, DOCUMENT, "account", "gone"),
        (documents.UserDocument, DOCUMENT, "segments", {"a": MEMBERSHIP | {"origin": "x"}}),
        (documents.Definition, DEFINITION, "state", "paused"),
        (documents.ProgressMarker, MARKER, "at", "now"),
    ],
)
def test_unknown_enum_value_is_rejected(
    model: type[BaseModel], example: dict[str, Any], field: str, value: Any
) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(example | {field: value})


def test_user_event_ignores_additional_fields() -> None:
    event = UserEvent.model_validate({"user_id": USER.upper(), "state": "x", "at": [1]})
    assert event.model_dump() == {"user_id": USER}


@pytest.mark.parametrize("reason", ["event", "unknown", "manual", "retry"])
def test_refresh_reasons_are_accepted(reason: str) -> None:
    refresh = Refresh.model_validate({"user_id": USER, "reason": reason, "later": 1})
    assert (refresh.user_id, refresh.reason, refresh.state) == (USER, reason, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "because"},
        {"user_id": "x"},
        {"state": "unknown"},
        {"origin_offset": -1},
        {"not_before_ms": "soon"},
    ],
)
def test_invalid_refresh_is_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Refresh.model_validate({"user_id": USER, "reason": "event"} | fields)
