"""Records of the shard log: compact JSON, the type in a header.

| type     | key          | value                                                               |
|----------|--------------|---------------------------------------------------------------------|
| change   | user id      | id, user_id, add: [[segment, ttl_ms, expires_at_ms], …], remove, actor |
| create   | segment name | id, segment, description, auto, actor                               |
| update   | segment name | id, segment, description, auto (absent = unchanged), actor          |
| delete   | segment name | id, segment, actor                                                  |
| preview  | command id   | id, auto                                                            |
| define   | segment name | a definition, and command_id, actor of the command that caused it   |
| user     | user id      | user_id, account, version, refresh: [topic id, partition, offset]   |
| tick     | none         | {}                                                                  |
| survey   | segment name | segment, generation, round, rule: count the eligible users          |
| surveyed | segment name | as in the survey, and partition, eligible, members, histogram       |
| refine   | segment name | segment, generation, round, bucket: list its candidates             |
| refined  | segment name | segment, generation, round, partition, places                       |
| select   | segment name | segment, generation, round, chosen, threshold, command_id, actor    |
| selected | segment name | segment, generation, round, partition, assigned, skipped            |

The record of a command with a trace context also has `trace`: `traceparent` and `tracestate`. It is
part of the value because a deferred command keeps it in the state.
"""

from __future__ import annotations

from typing import Any

import orjson

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

# Length of the rank histogram in a `surveyed` record: the values of the top 12 bits of a rank.
BUCKETS = 1 << 12


def source_coordinates(topic_id: str, partition: int, offset: int) -> str:
    """Header `src`: the source of a record. `topic_id` is the topic's UUID in Kafka."""
    return f"{topic_id}:{partition}:{offset}"


def parse_source(header: str) -> tuple[str, int]:
    """`topic id:partition:offset` -> (`topic id:partition`, offset)."""
    origin, _, offset = header.rpartition(":")
    return origin, int(offset)


def user_record(
    user_id: str, account: str, version: int | None, refresh: tuple[str, int, int]
) -> dict[str, Any]:
    """Value of a `user` record. `refresh`: topic id, partition, offset in users.refreshes."""
    return {"user_id": user_id, "account": account, "version": version, "refresh": list(refresh)}


def encode(value: Any) -> bytes:
    """Compact JSON."""
    return orjson.dumps(value)
