"""Context shared by the parts of a shard's state machine: configuration, documents, outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from segments.contracts.documents import ResultStatus
from segments.contracts.partitioning import partition_of
from segments.state.machine import outputs
from segments.state.machine.config import Config
from segments.state.machine.documents import DocumentStore, Outcome, ShardState
from segments.state.machine.memberships import Rejection
from segments.state.machine.outputs import ShardOutput

Handler = Callable[[dict[str, Any]], None]
"""Applies the value of a log record of one type."""


@dataclass(frozen=True, slots=True)
class ShardContext:
    """`shard`: live document of the shard itself. `outputs`: those of the current record."""

    config: Config
    state: DocumentStore
    shard: ShardState
    outputs: list[ShardOutput]

    def outcome(self, status: ResultStatus, changes: list[list[str]]) -> Outcome:
        """The outcome of a command that was accepted at the current log position."""
        shard = self.shard
        return Outcome(
            status=status, error=None, changes=changes, offset=shard["offset"], at=shard["log_time"]
        )

    def rejected(self, rejection: Rejection) -> Outcome:
        """The outcome of a command that was rejected at the current log position."""
        outcome = self.outcome("rejected", [])
        outcome["error"] = rejection.as_error()
        return outcome

    def reply(self, command: Mapping[str, Any], outcome: Outcome) -> None:
        """Output the result of a command."""
        self.outputs.append(outputs.result(self.config.partition, command, outcome))

    def send_home(self, key: str, message_type: str, value: dict[str, Any]) -> None:
        """Output a message to the home shard of a segment or a preview."""
        home = partition_of(key, self.config.partitions)
        self.outputs.append(outputs.message(home, key, message_type, value))

    def broadcast(self, key: str, message_type: str, value: dict[str, Any]) -> None:
        """Output a message to every shard, this one included."""
        for partition in range(self.config.partitions):
            self.outputs.append(outputs.message(partition, key, message_type, value))
