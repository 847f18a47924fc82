"""Every kind of message on every topic: its value, its headers, its key, who writes it.

The schemas and the AsyncAPI document are made from this table; a test holds what is on a broker
against it. A record is of exactly one kind of its topic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter

from segments.contracts import documents, events, headers, log, log_records
from segments.contracts.cloudevents import schemas
from segments.contracts.commands import COMMAND_TYPES
from segments.contracts.names import CommandId, SegmentName
from segments.contracts.topics import (
    COMMANDS_TOPIC,
    DEFINITIONS_TOPIC,
    DLQ_TOPIC,
    HISTORY_TOPIC,
    PROGRESS_KEY_PREFIX,
    REFRESHES_TOPIC,
    RESULTS_TOPIC,
    SHARDS_TOPIC,
    USER_EVENTS_TOPIC,
    USERS_TOPIC,
)

_USER_KEY = TypeAdapter(documents.UserIdText).json_schema()
_SEGMENT_KEY = TypeAdapter(SegmentName).json_schema()
_COMMAND_KEY = TypeAdapter(CommandId).json_schema()
_PROGRESS_KEY = {"type": "string", "pattern": f"^{PROGRESS_KEY_PREFIX}[0-9]+$"}
_NO_KEY = {"type": "null"}
_COMMAND_KEYS = {"user_id": _USER_KEY, "segment": _SEGMENT_KEY, "id": _COMMAND_KEY}

JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"


class MessageType(NamedTuple):
    """One kind of message. `topic` as in topics.yaml.

    `value`: None for bytes that are nobody's business. `key`: a JSON Schema of its text; None =
    anything or none. `writers`: None = all that topics.yaml names.
    """

    topic: str
    name: str
    value: type[BaseModel] | None
    headers: type[headers.RecordHeaders] | None = None
    key: dict[str, Any] | None = None
    writers: tuple[str, ...] | None = None
    summary: str = ""
    content_type: str = JSON_TYPE

    def description(self) -> str:
        """What the message is, in a line."""
        text = self.summary or (self.value.__doc__ if self.value is not None else "") or ""
        return " ".join(text.split("\n\n")[0].split())


_LOG: tuple[tuple[str, type[BaseModel], dict[str, Any], str], ...] = (
    *(
        (command.log_type, command.log_value, _COMMAND_KEYS[command.key_field], "router")
        for command in COMMAND_TYPES.values()
    ),
    (log.USER, log_records.UserRecord, _USER_KEY, "users"),
    (log.DEFINE, log_records.DefineRecord, _SEGMENT_KEY, "shards"),
    (log.TICK, log_records.TickRecord, _NO_KEY, "shards"),
    # The key of a survey and of its answer is the command's id when a preview asks.
    (log.SURVEY, log_records.SurveyRecord, _COMMAND_KEY, "shards"),
    (log.SURVEYED, log_records.SurveyedRecord, _COMMAND_KEY, "shards"),
    (log.REFINE, log_records.RefineRecord, _SEGMENT_KEY, "shards"),
    (log.REFINED, log_records.RefinedRecord, _SEGMENT_KEY, "shards"),
    (log.SELECT, log_records.SelectRecord, _SEGMENT_KEY, "shards"),
    (log.SELECTED, log_records.SelectedRecord, _SEGMENT_KEY, "shards"),
)


MESSAGE_TYPES: tuple[MessageType, ...] = (
    *(
        MessageType(COMMANDS_TOPIC, name, command, headers.EventHeaders)
        for name, command in COMMAND_TYPES.items()
    ),
    MessageType(COMMANDS_TOPIC, "cloud_event", schemas.CommandEvent, headers.EventHeaders),
    MessageType(USER_EVENTS_TOPIC, "user_event", events.UserEvent, headers.EventHeaders),
    MessageType(USER_EVENTS_TOPIC, "cloud_event", schemas.UserEventEvent, headers.EventHeaders),
    MessageType(REFRESHES_TOPIC, "refresh", events.Refresh, None, _USER_KEY),
    *(
        MessageType(
            SHARDS_TOPIC,
            kind,
            model,
            headers.log_headers(kind, from_router=writer == "router"),
            key,
            (writer,),
        )
        for kind, model, key, writer in _LOG
    ),
    MessageType(USERS_TOPIC, "user", documents.UserDocument, None, _USER_KEY),
    MessageType(USERS_TOPIC, "progress", documents.ProgressMarker, None, _PROGRESS_KEY),
    MessageType(DEFINITIONS_TOPIC, "definition", documents.Definition, None, _SEGMENT_KEY),
    MessageType(RESULTS_TOPIC, "result", documents.Result, headers.ResultHeaders, _COMMAND_KEY),
    MessageType(
        RESULTS_TOPIC,
        "preview_result",
        documents.PreviewResult,
        headers.ResultHeaders,
        _COMMAND_KEY,
        ("shards",),
    ),
    MessageType(HISTORY_TOPIC, "row", documents.HistoryRow, headers.HistoryHeaders, _USER_KEY),
    MessageType(
        DLQ_TOPIC,
        "dead_letter",
        None,
        headers.DeadLetterHeaders,
        summary="A record that was not understood: its bytes, key and headers, and why.",
        content_type=BYTES_TYPE,
    ),
    MessageType(
        "changelog__{group:shards}--shards--default",
        "row",
        None,
        summary="A document of a shard's state, in a form of the shards' own.",
        content_type=BYTES_TYPE,
    ),
)


def message_types_of(topic: str) -> tuple[MessageType, ...]:
    """The kinds of message on a topic of topics.yaml."""
    return tuple(kind for kind in MESSAGE_TYPES if kind.topic == topic)
