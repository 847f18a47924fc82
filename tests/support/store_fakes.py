"""A shard's store with a fake broker that keeps its records and can replay its changelog."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from segments.state.machine.config import Config
from segments.state.rocksdb import scan
from segments.state.store.partition import CHANGELOG_OFFSET_KEY, ShardPartition, StoreContext

CHANGELOG = "changelog"
USERS = "segments.users"
PARTITION = 3


class Produced(NamedTuple):
    """A record produced by the store. `with_callback`: Quix gets its delivery report."""

    topic: str
    key: bytes
    value: bytes | None
    partition: int
    headers: dict[str, Any]
    with_callback: bool


class Broker:
    """Collects produced records; `changelog`: the rows of committed checkpoints."""

    def __init__(self) -> None:
        self.open: list[Produced] = []
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.changelog_name = CHANGELOG
        self.partition = PARTITION

    def produce(
        self, key: bytes, value: bytes | None = None, headers: Any = None, **options: Any
    ) -> None:
        """Same interface as Quix's ChangelogProducer."""
        self.open.append(
            Produced(CHANGELOG, key, value, self.partition, dict(headers or []), with_callback=True)
        )

    def produce_raw(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | str,
        *,
        partition: int,
        headers: Any = None,
    ) -> None:
        """Same interface as `quix.transactional_output`."""
        raw_key = key.encode() if isinstance(key, str) else key
        self.open.append(
            Produced(topic, raw_key, value, partition, dict(headers or []), with_callback=False)
        )

    def commit(self) -> int:
        """Commit the transaction; returns the offset of its last changelog row."""
        self.changelog += [(row.key, row.value) for row in self.rows()]
        self.open = []
        return len(self.changelog) - 1

    def rows(self) -> list[Produced]:
        return [each for each in self.open if each.topic == CHANGELOG]

    def documents(self) -> list[Produced]:
        return [each for each in self.open if each.topic == USERS]


class Host:
    """A process with one shard's store, which can crash."""

    def __init__(
        self, folder: Path, *, cache_bytes: int = 1 << 20, config: Config | None = None
    ) -> None:
        self.folder = folder
        self.broker = Broker()
        self._config = config or Config(PARTITION, PARTITION + 1)
        self._cache_bytes = cache_bytes
        self._open()

    def _open(self) -> None:
        context = StoreContext(USERS, self.broker.produce_raw, lambda: self._cache_bytes)
        self.partition = ShardPartition(self.folder, self.broker, self._config, context=context)
        self.transaction = self.partition.begin()

    def prepare(self) -> list[Produced]:
        """Produce the changes since the last commit."""
        self.transaction.prepare({"segments.shards": 41})
        return self.broker.open

    def checkpoint(self) -> list[Produced]:
        """Commit the changes; returns the records produced for them."""
        if not self.partition.changed:
            return []
        produced = self.prepare()
        self.transaction.flush(self.broker.commit())
        self.transaction = self.partition.begin()
        return produced

    def reopen(self) -> None:
        """Start a new process with the same folder."""
        self.partition.close()
        self.broker.open = []
        self._open()

    def restore(self, folder: Path) -> None:
        """Start a new process with an empty folder, restored from the changelog."""
        self.partition.close()
        self.broker.open = []
        self.folder = folder
        self._open()
        self.recover()

    def recover(self) -> None:
        """Read the changelog from the stored offset, including that row again, as Quix does."""
        first = self.partition.get_changelog_offset() or 0
        for offset, (key, value) in list(enumerate(self.broker.changelog))[first:]:
            self.partition.recover_from_changelog_message(key, value, "default", offset)
        self.partition.complete_recovery()

    def documents(self) -> list[tuple[bytes, Any]]:
        """Every document in the database, in key order."""
        database = self.partition._db
        return [
            (key, orjson.loads(value))
            for key, value in scan(database, b"")
            if key != CHANGELOG_OFFSET_KEY
        ]
