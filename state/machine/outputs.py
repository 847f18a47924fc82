"""Records that a shard produces, in the order of its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from segments.contracts.documents import Cause, MembershipOperation
from segments.contracts.times import to_rfc3339
from segments.contracts.topics import (
    DEFINITIONS_TOPIC,
    HISTORY_TOPIC,
    REFRESHES_TOPIC,
    RESULTS_TOPIC,
    SHARDS_TOPIC,
)
from segments.state.machine.documents import MembershipState, Outcome, ShardState, StoredUser


class ShardOutput(NamedTuple):
    """A record to produce. `topic` as in topics.yaml; no partition = by key (murmur2).

    `value` may share objects with the documents: encode it before the next record is applied.

    `trace`: trace context (`tracing`) of the command that caused it, if any.
    """

    topic: str
    key: str
    value: dict[str, Any]
    partition: int | None = None
    type: str | None = None
    trace: dict[str, str] | None = None


class Reason(NamedTuple):
    """Why and when (ms) a membership changed."""

    at: int
    cause: Cause
    command_id: str | None = None
    actor: str | None = None
    trace: dict[str, str] | None = None


def history_row(
    partition: int,
    user_id: str,
    segment: str,
    operation: MembershipOperation,
    membership: MembershipState,
    reason: Reason,
) -> ShardOutput:
    """A row of segments.history. `membership`: before a removal, else after the change."""
    expires_at = membership["expires_at"]
    row = {
        "user_id": user_id,
        "segment": segment,
        "generation": membership["generation"],
        "operation": operation,
        "at": to_rfc3339(reason.at),
        "cause": reason.cause,
        "command_id": reason.command_id,
        "actor": reason.actor,
        "expires_at": None if expires_at is None else to_rfc3339(expires_at),
    }
    return ShardOutput(HISTORY_TOPIC, user_id, row, partition, trace=reason.trace)


def result(partition: int, command: Mapping[str, Any], outcome: Outcome) -> ShardOutput:
    """A record of segments.results; `command` is the log record of the command."""
    command_id: str = command["id"]
    value = {
        "command_id": command_id,
        "status": outcome["status"],
        "error": outcome["error"],
        "changes": [
            {"segment": segment, "operation": operation}
            for segment, operation in outcome["changes"]
        ],
        "position": f"{partition}:{outcome['offset']}",
        "at": to_rfc3339(outcome["at"]),
    }
    return ShardOutput(RESULTS_TOPIC, command_id, value, trace=command.get("trace"))


def public_document(partition: int, user_id: str, user: StoredUser) -> dict[str, Any]:
    """Value of segments.users; shares objects with the user's document."""
    return {
        "user_id": user_id,
        "account": user["account"],
        "segments": user["segments"],
        "position": f"{partition}:{user['offset']}",
        "at": user["at"],
    }


def progress_marker(shard: ShardState, complete_at: int) -> dict[str, Any]:
    """Value of segments.users at the partition's progress key."""
    return {
        "log_offset": shard["offset"],
        "log_time": shard["log_time"],
        "at": complete_at,
        "history_rows": shard["history_rows"],
        "defined": shard["defined"],
    }


def message(partition: int, key: str, message_type: str, value: dict[str, Any]) -> ShardOutput:
    """A record that a shard writes to the log of one partition."""
    return ShardOutput(SHARDS_TOPIC, key, value, partition, message_type)


def preview(
    partition: int,
    command_id: str,
    at: tuple[int, int],
    counts: dict[str, int],
    trace: dict[str, str] | None,
) -> ShardOutput:
    """The result of a preview. `at` = log offset and log time of the last reply."""
    value: dict[str, Any] = {
        "command_id": command_id,
        "status": "unchanged",
        "error": None,
        "changes": [],
        "position": f"{partition}:{at[0]}",
        "at": to_rfc3339(at[1]),
        "preview": counts,
    }
    return ShardOutput(RESULTS_TOPIC, command_id, value, trace=trace)


def definition(segment: str, value: dict[str, Any]) -> ShardOutput:
    return ShardOutput(DEFINITIONS_TOPIC, segment, value)


def refresh(partition: int, user_id: str) -> ShardOutput:
    """Request to fetch the account state of a user known only from a command."""
    value = {"user_id": user_id, "reason": "unknown"}
    return ShardOutput(REFRESHES_TOPIC, user_id, value, partition)
