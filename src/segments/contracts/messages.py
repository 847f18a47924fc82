"""Message types of every topic: value, headers, key and writers.

The JSON Schemas and the AsyncAPI document are generated from this table; a test checks the records
on a broker against it. Every record matches exactly one message type of its topic.
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

JSON_CONTENT_TYPE = "application/json"
BYTES_CONTENT_TYPE = "application/octet-stream"


class MessageType(NamedTuple):
    """A type of message. `topic` as in topics.yaml.

    `value`: None for opaque bytes. `key`: a JSON Schema of its text; None = any or no key.
    `writers`: None = all writers of the topic in topics.yaml.
    """

    topic: str
    name: str
    value: type[BaseModel] | None
    headers: type[headers.HeaderModel] | None = None
    key: dict[str, Any] | None = None
    writers: tuple[str, ...] | None = None
    summary: str = ""
    content_type: str = JSON_CONTENT_TYPE

    def description(self) -> str:
        """One-line description of the message."""
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
    # A survey for a preview, and its reply, have the command's id as the key.
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
            log_type,
            model,
            headers.log_headers(log_type, from_router=writer == "router"),
            key,
            (writer,),
        )
        for log_type, model, key, writer in _LOG
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
        summary="A record that could not be processed: its bytes, key and headers, and the reason.",
        content_type=BYTES_CONTENT_TYPE,
    ),
    MessageType(
        "changelog__{group:shards}--shards--default",
        "row",
        None,
        summary="A document of a shard's state, in the internal format of the shards.",
        content_type=BYTES_CONTENT_TYPE,
    ),
)


def message_types_of(topic: str) -> tuple[MessageType, ...]:
    """Message types of a topic of topics.yaml."""
    return tuple(message for message in MESSAGE_TYPES if message.topic == topic)
