"""One shard with an in-memory log; its invariants are checked at every record."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter

from segments.contracts import documents as contracts
from segments.contracts.events import Refresh
from segments.contracts.times import from_rfc3339
from segments.state.machine.config import Config, LogRecord
from segments.state.machine.digest import MemoryState, digest
from segments.state.machine.documents import USER_PREFIX, encode, user_key
from segments.state.machine.outputs import ShardOutput, progress_marker, public_document
from segments.state.machine.shard import Shard

CONTRACTS: dict[str, Any] = {
    "segments.history": TypeAdapter(contracts.HistoryRow),
    "segments.results": TypeAdapter(contracts.PreviewResult | contracts.Result),
    "segments.definitions": TypeAdapter(contracts.Definition),
    "users.refreshes": TypeAdapter(Refresh),
}


class Appended(NamedTuple):
    """A record of the log as Kafka keeps it: bytes, so that no two machines share an object."""

    type: str
    value: bytes
    append_time: int
    source: tuple[str, int] | None


class Produced(NamedTuple):
    """An output as Kafka gets it: its value is bytes, so that no two machines share an object."""

    topic: str
    key: str
    value: bytes
    partition: int | None
    type: str | None
    trace: dict[str, str] | None


def encoded(outputs: list[ShardOutput]) -> list[Produced]:
    """Outputs with their values encoded, as the shards application does at once."""
    return [Produced(*output._replace(value=orjson.dumps(output.value))) for output in outputs]  # type: ignore[arg-type]


def _copy(value: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = orjson.loads(orjson.dumps(value))
    return copied


class RecordingState(MemoryState):
    """Records which public documents are to be written."""

    def __init__(self) -> None:
        super().__init__()
        self.published: set[str] = set()

    def publish(self, user_id: str) -> None:
        self.published.add(user_id)

    def dump(self) -> dict[bytes, bytes]:
        """Every document as JSON, as a store keeps it."""
        return {key: encode(document) for key, document in self.scan(b"")}

    @classmethod
    def load(cls, dumped: dict[bytes, bytes]) -> RecordingState:
        state = cls()
        for key, document in dumped.items():
            state.put(key, orjson.loads(document))
        return state


class HostedShard:
    """A log, the machine that applies it, and its outputs, one list per record."""

    def __init__(self, config: Config, log: list[Appended] | None = None) -> None:
        self.config = config
        self.log: list[Appended] = [] if log is None else log
        self.outputs: list[list[Produced]] = []
        self.documents: dict[str, dict[str, Any]] = {}
        self.state = RecordingState()
        self.machine = Shard(config, self.state)
        self._complete_at = -1
        self._history_rows = 0
        self._defined = -1
        self.checkpoint()

    @property
    def applied(self) -> int:
        return len(self.outputs)

    @property
    def behind(self) -> int:
        return len(self.log) - self.applied

    def record(self, offset: int) -> LogRecord:
        """A decoded record: a new object at every call."""
        kind, value, append_time, source = self.log[offset]
        return LogRecord(kind, orjson.loads(value), offset, append_time, source)

    def apply_next(self) -> list[Produced]:
        """Apply the next record and check what must hold after any record."""
        offset = self.applied
        outputs = encoded(self.machine.apply(self.record(offset)))
        self.outputs.append(outputs)
        self._watch(offset, outputs)
        return outputs

    def _watch(self, offset: int, outputs: list[Produced]) -> None:
        for output in outputs:
            value = orjson.loads(output.value)
            if (model := CONTRACTS.get(output.topic)) is not None:
                model.validate_python(value)
            if output.topic == "segments.history":
                self._history_rows += 1
                assert from_rfc3339(value["at"]) > self._complete_at, "row below the watermark"
            if output.topic == "segments.definitions":
                self._defined = offset
        for user_id in self.state.published:
            user = self.state.get(user_key(user_id))
            document = _copy(public_document(self.config.partition, user_id, user))
            contracts.UserDocument.model_validate(document)
            self.documents[user_id] = document
        self.state.published.clear()
        self._watch_progress(offset)

    def _watch_progress(self, offset: int) -> None:
        complete_at = self.machine.complete_at_ms()
        assert complete_at >= self._complete_at, "the watermark never goes back"
        self._complete_at = complete_at
        marker = _copy(progress_marker(self.machine.shard, complete_at))
        contracts.ProgressMarker.model_validate(marker)
        assert marker == {
            "log_offset": offset,
            "log_time": self.machine.shard["log_time"],
            "at": complete_at,
            "history_rows": self._history_rows,
            "defined": self._defined,
        }

    def check_documents(self) -> None:
        """Every public document was written after its last change."""
        for key, user in self.state.scan(USER_PREFIX):
            user_id = key[1:].decode()
            shown = _copy(public_document(self.config.partition, user_id, user))
            assert self.documents[user_id] == shown

    # --- crashes ---

    def checkpoint(self) -> None:
        """Store the state that `crash` restores."""
        self._checkpoint = (self.state.dump(), self.applied)

    def crash(self) -> None:
        """Lose everything since the checkpoint, restore, and apply the same records again."""
        due, complete_at = self.machine.next_due_ms(), self.machine.complete_at_ms()
        jobs, before = self.machine.jobs, self.digest()
        dumped, applied = self._checkpoint
        self.state = RecordingState.load(dumped)
        self.machine = Shard(self.config, self.state)
        for offset in range(applied, self.applied):
            assert encoded(self.machine.apply(self.record(offset))) == self.outputs[offset]
        self.state.published.clear()
        assert self.digest() == before
        assert (self.machine.next_due_ms(), self.machine.jobs) == (due, jobs)
        assert self.machine.complete_at_ms() == complete_at

    def check_replay(self) -> None:
        """A replay of the whole log produces the same outputs, byte by byte, and the same state."""
        replayed = HostedShard(self.config, self.log)
        while replayed.applied < self.applied:
            assert replayed.apply_next() == self.outputs[replayed.applied - 1]
        assert replayed.digest() == self.digest()
        assert replayed.documents == self.documents

    def digest(self) -> str:
        return digest(self.state.scan(b""))
