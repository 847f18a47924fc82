"""What a shard does about segments: as their home, and as one who has heard of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segments.contracts.log import CREATE, UPDATE
from segments.state import definitions, outputs
from segments.state.documents import (
    REPLICA_PREFIX,
    HomeState,
    JobState,
    Outcome,
    ReplicaState,
    ShardState,
    State,
    home_key,
    job_key,
    remember,
    replica_key,
)
from segments.state.membership import Rejection
from segments.state.outputs import Output

if TYPE_CHECKING:
    from segments.state.shard import Config


class SegmentDecisions:
    """Definitions and deletions of a shard.

    `usable`: generation of every active segment. `heard_of`: every name ever defined here.
    """

    def __init__(self, config: Config, state: State, shard: ShardState, out: list[Output]) -> None:
        self._config = config
        self._state = state
        self._shard = shard
        self._out = out
        self.jobs: dict[tuple[str, int], JobState] = {}
        self.usable: dict[str, int] = {}
        self.heard_of: set[str] = set()
        for key, replica in state.scan(REPLICA_PREFIX):
            self._know(key[1:].decode(), replica)

    def _know(self, segment: str, replica: ReplicaState) -> None:
        self.heard_of.add(segment)
        if replica["state"] == "deleted":
            self.usable.pop(segment, None)
        else:
            self.usable[segment] = replica["generation"]

    def command(self, kind: str, command: dict[str, Any]) -> None:
        """A `create`, `update` or `delete` at the segment's home."""
        key = home_key(command["segment"])
        home: HomeState | None = self._state.get(key)
        if home is not None and (first := home["outcomes"].get(command["id"])) is not None:
            self._out.append(outputs.result(self._config.partition, command["id"], first))
            return
        decided = self._decide(kind, home, command)
        rejected = isinstance(decided, Rejection)
        outcome = Outcome(
            status="rejected" if rejected else "unchanged" if decided is home else "applied",
            error=decided.as_error() if isinstance(decided, Rejection) else None,
            changes=[],
            offset=self._shard["offset"],
            at=self._shard["log_time"],
        )
        self._out.append(outputs.result(self._config.partition, command["id"], outcome))
        document = home if isinstance(decided, Rejection) else decided
        if document is None:
            return
        remember(document["outcomes"], command["id"], outcome, self._config.remembered_ids)
        self._state.put(key, document)
        if outcome["status"] == "applied":
            self._broadcast(document, command)

    def _decide(
        self, kind: str, home: HomeState | None, command: dict[str, Any]
    ) -> Rejection | HomeState:
        if kind == CREATE:
            return definitions.create(
                home,
                command,
                now=self._shard["log_time"],
                active=len(self.usable),
                max_segments=self._config.segments,
            )
        if kind == UPDATE:
            return definitions.update(home, command)
        return definitions.delete(home, command)

    def _broadcast(self, home: HomeState, command: dict[str, Any]) -> None:
        segment = command["segment"]
        self._shard["defined"] = self._shard["offset"]
        position = f"{self._config.partition}:{self._shard['offset']}"
        public = definitions.definition(segment, home, position)
        self._out.append(outputs.definition(segment, public))
        value = public | {"command_id": command["id"], "actor": command.get("actor")}
        for partition in range(self._config.partitions):
            self._out.append(outputs.define(partition, segment, value))

    def define(self, value: dict[str, Any]) -> bool:
        """Hear of a segment; whether it was news."""
        key = replica_key(value["segment"])
        if not definitions.supersedes(value, self._state.get(key)):
            return False
        replica = ReplicaState(
            generation=value["generation"], version=value["version"], state=value["state"]
        )
        self._state.put(key, replica)
        self._know(value["segment"], replica)
        return True

    def begin_deletion(self, define: dict[str, Any]) -> None:
        """From this log position on the generation counts for nothing; its rows follow."""
        job = JobState(
            segment=define["segment"],
            generation=define["generation"],
            at=self._shard["log_time"],
            command_id=define["command_id"],
            actor=define["actor"],
        )
        self._state.put(job_key(job["segment"], job["generation"]), job)
        self.add_job(job)

    def add_job(self, job: JobState) -> None:
        self.jobs[job["segment"], job["generation"]] = job

    def end_job(self, job: JobState) -> None:
        del self.jobs[job["segment"], job["generation"]]
        self._state.delete(job_key(job["segment"], job["generation"]))

    @property
    def has_jobs(self) -> bool:
        return bool(self.jobs)

    def first_job(self) -> JobState | None:
        """The job that began first, ties by name: the same one before and after a restart."""
        if not self.jobs:
            return None
        return min(self.jobs.values(), key=lambda j: (j["at"], j["segment"], j["generation"]))

    def job_of(self, segment: str, generation: int) -> JobState | None:
        """The deletion that ended this generation and is still being written."""
        return self.jobs.get((segment, generation))

    def deleted_at(self, segment: str, generation: int) -> int | None:
        job = self.jobs.get((segment, generation))
        return None if job is None else job["at"]
