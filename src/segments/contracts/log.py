"""Records of the shard log: compact JSON, the type in a header.

| type     | key          | value                                                               |
|----------|--------------|---------------------------------------------------------------------|
| change   | user id      | id, user_id, add: [[segment, ttl_ms, expires_at_ms], …], remove, actor |
| create   | segment name | id, segment, description, auto, actor                               |
| update   | segment name | id, segment, description, auto (absent = unchanged), actor          |
| delete   | segment name | id, segment, actor                                                  |
| preview  | command id   | id, auto                                                            |
| define   | segment name | a definition, and command_id, actor of the command behind it        |
| user     | user id      | user_id, account, version, refresh: [topic id, partition, offset]   |
| tick     | none         | {}                                                                  |
| survey   | segment name | segment, generation, round, rule: who could be given it?            |
| surveyed | segment name | as asked, and partition, eligible, members, histogram               |
| refine   | segment name | segment, generation, round, bucket: who stands in there?            |
| refined  | segment name | segment, generation, round, partition, places                       |
| select   | segment name | segment, generation, round, chosen, threshold, command_id, actor    |
| selected | segment name | segment, generation, round, partition, assigned, skipped            |

A command's record also has `trace` where its command came with a trace context: `traceparent` and
`tracestate`. It stands in the value since a command that waits in the state keeps it there.
"""

from __future__ import annotations

from typing import Any

import orjson

from segments.contracts.commands import (
    ChangeMemberships,
    CreateSegment,
    DeleteSegment,
    PreviewSegment,
    UpdateSegment,
)

HEADER_TYPE = "type"
HEADER_SOURCE = "src"

CHANGE = "change"
CREATE = "create"
UPDATE = "update"
DELETE = "delete"
PREVIEW = "preview"
DEFINE = "define"
USER = "user"
TICK = "tick"
SURVEY = "survey"
SURVEYED = "surveyed"
REFINE = "refine"
REFINED = "refined"
SELECT = "select"
SELECTED = "selected"


def source_coordinates(topic_id: str, partition: int, offset: int) -> str:
    """Header `src`: where a record came from. `topic_id` is the topic's UUID in Kafka."""
    return f"{topic_id}:{partition}:{offset}"


def parse_source(header: str) -> tuple[str, int]:
    """`topic id:partition:offset` -> (`topic id:partition`, offset)."""
    origin, _, offset = header.rpartition(":")
    return origin, int(offset)


def log_record(
    command: CreateSegment | UpdateSegment | DeleteSegment | PreviewSegment | ChangeMemberships,
    command_id: str,
    trace: dict[str, str] | None = None,
) -> tuple[str, str, dict[str, Any]]:
    """(type, key, value) of a command's record; an id of its own wins over `command_id`."""
    value: dict[str, Any] = {"id": command.id or command_id}
    if trace is not None:
        value["trace"] = trace
    if command.actor is not None:
        value["actor"] = command.actor
    if isinstance(command, ChangeMemberships):
        value["user_id"] = command.user_id
        value["add"] = [[a.segment, a.ttl, a.expires_at] for a in command.add]
        value["remove"] = command.remove
        return CHANGE, command.user_id, value
    if isinstance(command, PreviewSegment):
        value["auto"] = command.auto.rule()
        return PREVIEW, value["id"], value
    value["segment"] = command.segment
    if isinstance(command, DeleteSegment):
        return DELETE, command.segment, value
    if command.auto is not None:
        value["auto"] = command.auto.rule()
    if isinstance(command, CreateSegment):
        value["description"] = command.description
        return CREATE, command.segment, value
    if "description" in command.model_fields_set:
        value["description"] = command.description
    return UPDATE, command.segment, value


def user_record(
    user_id: str, account: str, version: int | None, refresh: tuple[str, int, int]
) -> dict[str, Any]:
    """Value of a `user` record. `refresh` = topic id, partition, offset in users.refreshes."""
    return {"user_id": user_id, "account": account, "version": version, "refresh": list(refresh)}


def encode(value: Any) -> bytes:
    """Compact JSON."""
    return orjson.dumps(value)
