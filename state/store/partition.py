"""One shard's documents, decoded, over RocksDB, as a partition of a Quix store.

A document touched many times between two checkpoints is encoded once, at the commit: one changelog
row, one entry of one WriteBatch and, where other services see it, one public document.

In-memory state is ahead of the committed state until the commit. If a checkpoint is abandoned, an
`UncommittedStateError` ends the process; the next one starts from the committed state.
"""

from __future__ import annotations

import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from quixstreams.state.base import PartitionTransaction, StorePartition
from quixstreams.state.base.transaction import PartitionTransactionStatus
from rocksdict import Rdict, WriteBatch

from segments.contracts.topics import PROGRESS_KEY_PREFIX
from segments.state import rocksdb
from segments.state.machine.config import Config
from segments.state.machine.documents import bitmap_text, user_key
from segments.state.machine.outputs import progress_marker, public_document
from segments.state.machine.shard import Shard
from segments.telemetry import logs

CHANGELOG_OFFSET_KEY = b"\0changelog_offset"
"""Not a document: the offset of the last changelog row that the database contains."""

RECOVERY_BATCH_ROWS = 5_000
CACHE_BYTES = 32 * 1024 * 1024
"""Size of decoded documents cached between checkpoints, as JSON bytes; memory use is about five
times that."""

log = logs.get(__name__)

Produce = Callable[..., None]
"""(topic on the cluster, value, key, partition=, headers=) into the checkpoint's transaction."""


def partition_path(state_dir: Path, partition: int) -> Path:
    """The folder of one shard's database."""
    return state_dir / str(partition)


class StoreContext(NamedTuple):
    """What the shards of a process share. `users_topic`: segments.users on the cluster."""

    users_topic: str
    produce: Produce
    cache_bytes: Callable[[], int]
    """The share of one shard in `CACHE_BYTES`."""


class UncommittedStateError(RuntimeError):
    """The state in memory contains uncommitted changes."""


class IncompleteStateError(RuntimeError):
    """Documents are missing in the store; the message states the remedy."""


class ShardPartition(StorePartition):
    """One shard's documents. Implements `documents.DocumentStore` for its machine."""

    def __init__(
        self, path: Path, changelog: Any, config: Config, *, context: StoreContext
    ) -> None:
        super().__init__(orjson.dumps, orjson.loads, changelog)
        self._path = path
        self._config = config
        self._context = context
        self._db = self._open()
        self.closed = False
        # Least recently written first. A key maps to None once its document is deleted.
        self._cache: OrderedDict[bytes, Any] = OrderedDict()
        self._sizes: dict[bytes, int] = {}
        self.cached_bytes = 0
        self._dirty: dict[bytes, None] = {}
        self._published: dict[str, None] = {}
        self._recovered = WriteBatch(raw_mode=True)
        self._recovered_offset: int | None = None
        self._shard: Shard | None = None

    def _open(self) -> Rdict:
        try:
            return rocksdb.open_database(self._path)
        except Exception as error:  # rocksdict raises bare Exceptions
            if not rocksdb.is_damage(error):
                raise
            log.warning("state_damaged", action="restoring from the changelog", error=str(error))
            shutil.rmtree(self._path)
            return rocksdb.open_database(self._path)

    def _remove_if_damaged(self, error: Exception) -> None:
        """Remove a damaged database, so that the next process restores it from the changelog."""
        if rocksdb.is_damage(error):
            log.error(
                "state_damaged", action="removed; the next start restores it", error=str(error)
            )
            self.closed = True
            self._db.close()
            shutil.rmtree(self._path)

    @property
    def shard(self) -> Shard:
        """The machine; built from the documents at first use, after the recovery."""
        if self._shard is None:
            self._write_recovered()
            started = time.monotonic()
            shard = Shard(self._config, self)
            users, known = shard.population.users, shard.shard["next_ordinal"]
            if users != known:
                raise IncompleteStateError(
                    f"shard {self._config.partition} has {users} of its {known} users, "
                    "and users are never removed: run `segments state reset`, which restores "
                    "it from the changelog; if the error recurs, the changelog has lost rows "
                    "and must be restored from a backup"
                )
            log.info(
                "shard_ready",
                partition=self._config.partition,
                offset=shard.shard["offset"],
                users=users,
                rebuild_ms=round((time.monotonic() - started) * 1000),
            )
            self._shard = shard
        return self._shard

    # --- DocumentStore ---

    def get(self, key: bytes, cf_name: str = "default") -> Any:  # noqa: ARG002 - Quix's signature
        """The live document, or None."""
        document = self._cache.get(key)
        if document is not None or key in self._cache:
            return document
        try:
            raw = self._db.get(key)
        except Exception as error:
            self._remove_if_damaged(error)
            raise
        if raw is None:
            return None
        document = self._cache[key] = orjson.loads(raw)
        self._sizes[key] = size = len(key) + len(raw)
        self.cached_bytes += size
        return document

    def exists(self, key: bytes, cf_name: str = "default") -> bool:
        return self.get(key, cf_name) is not None

    def put(self, key: bytes, document: Any) -> None:
        self._cache[key] = document
        self._dirty[key] = None

    def delete(self, key: bytes) -> None:
        self._cache[key] = None
        self._dirty[key] = None

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Any]]:
        """All stored documents with this prefix, in key order; between checkpoints only."""
        assert not self._dirty, "a scan does not see what is not yet committed"
        try:
            for key, raw in rocksdb.scan(self._db, prefix):
                yield key, orjson.loads(raw)
        except Exception as error:
            self._remove_if_damaged(error)
            raise

    def publish(self, user_id: str) -> None:
        self._published[user_id] = None

    # --- checkpoint ---

    @property
    def changed(self) -> bool:
        return bool(self._dirty)

    def begin(self) -> ShardTransaction:
        """A checkpoint's transaction; UncommittedStateError when the last one was abandoned."""
        self.require_open()
        if self._dirty:
            raise UncommittedStateError(
                f"shard {self._config.partition} holds changes of a checkpoint that was not "
                "committed; the process must restart from the committed state"
            )
        return ShardTransaction(self, self._changelog_producer, self._context.produce)

    def require_open(self) -> None:
        """UncommittedStateError once the partition was revoked."""
        if self.closed:
            raise UncommittedStateError(
                f"shard {self._config.partition} was revoked while its checkpoint was open"
            )

    def encode_changes(self) -> dict[bytes, bytes | None]:
        """Every changed document, encoded; None = deleted."""
        cache = self._cache
        encode = orjson.dumps
        return {
            key: None if (document := cache[key]) is None else encode(document, bitmap_text)
            for key in self._dirty
        }

    def publish_changes(self) -> None:
        """Produce the public documents, then the marker that they are complete."""
        partition = self._config.partition
        topic, produce, _ = self._context
        for user_id in self._published:
            user = self.get(user_key(user_id))
            document = public_document(partition, user_id, user)
            produce(topic, orjson.dumps(document), user_id, partition=partition)
        shard = self.shard
        marker = progress_marker(shard.shard, shard.complete_at_ms())
        produce(
            topic, orjson.dumps(marker), f"{PROGRESS_KEY_PREFIX}{partition}", partition=partition
        )
        self._published.clear()

    def write(self, cache: Any, changelog_offset: int | None) -> None:
        """Write changes (key -> value, None = deleted) and the changelog offset atomically."""
        assert changelog_offset is not None, "the offset of the last row is known"
        batch = WriteBatch(raw_mode=True)
        for key, value in cache.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(CHANGELOG_OFFSET_KEY, str(changelog_offset).encode())
        self._db.write(batch)
        self._dirty.clear()
        self._settle_cache(cache)

    def _settle_cache(self, written: dict[bytes, bytes | None]) -> None:
        """Move written documents to the end of the cache and evict from its beginning."""
        cache, sizes = self._cache, self._sizes
        cached_bytes = self.cached_bytes
        for key, value in written.items():
            size = len(key) + (0 if value is None else len(value))
            cached_bytes += size - sizes.get(key, 0)
            sizes[key] = size
            cache.move_to_end(key)
        limit = self._context.cache_bytes()
        while cached_bytes > limit:
            key, _ = cache.popitem(last=False)
            cached_bytes -= sizes.pop(key)
        self.cached_bytes = cached_bytes

    # --- recovery ---

    def get_changelog_offset(self) -> int | None:
        if self._recovered_offset is not None:
            return self._recovered_offset
        raw = self._db.get(CHANGELOG_OFFSET_KEY)
        return None if raw is None else int(raw)

    def write_changelog_offset(self, offset: int) -> None:
        self._recovered_offset = offset

    def recover_from_changelog_message(
        self,
        key: bytes,
        value: bytes | None,
        cf_name: str,  # noqa: ARG002 - Quix's signature
        offset: int,
        ttl_stamped: bool = False,  # noqa: ARG002, FBT001, FBT002 - Quix's signature
    ) -> None:
        if value is None:
            self._recovered.delete(key)
        else:
            self._recovered.put(key, value)
        self._recovered_offset = offset
        if len(self._recovered) >= RECOVERY_BATCH_ROWS:
            self._write_recovered()

    def complete_recovery(self) -> None:
        self._write_recovered()

    def _write_recovered(self) -> None:
        if self._recovered_offset is None:
            return
        self._recovered.put(CHANGELOG_OFFSET_KEY, str(self._recovered_offset).encode())
        self._db.write(self._recovered)
        self._recovered = WriteBatch(raw_mode=True)
        self._recovered_offset = None

    def close(self) -> None:
        if not self.closed:
            self._write_recovered()
            self.closed = True
            self._db.close()


class ShardTransaction(PartitionTransaction):  # type: ignore[type-arg]
    """The transaction of one checkpoint over a `ShardPartition`."""

    def __init__(self, partition: ShardPartition, changelog: Any, produce: Produce) -> None:
        super().__init__(partition, orjson.dumps, orjson.loads, changelog)
        self.store_partition = partition
        self._produce = produce
        self._encoded: dict[bytes, bytes | None] = {}

    @property
    def changed(self) -> bool:
        return self.store_partition.changed

    def prepare(self, processed_offsets: dict[str, int] | None = None) -> None:
        """Produce changelog rows and public documents into the checkpoint's transaction."""
        self.store_partition.require_open()
        if self.changed:
            self.store_partition.publish_changes()
            self._encoded = self.store_partition.encode_changes()
            self._produce_rows(processed_offsets)
        self._status = PartitionTransactionStatus.PREPARED

    def _produce_rows(self, processed_offsets: dict[str, int] | None) -> None:
        changelog = self._changelog_producer
        assert changelog is not None, "the state of a shard has a changelog"
        topic, partition = changelog.changelog_name, changelog.partition
        headers: list[tuple[str, str | bytes]] = [
            ("__column_family__", "default"),
            ("__processed_tp_offsets__", orjson.dumps(processed_offsets)),
        ]
        rows = list(self._encoded.items())
        # Rows of a partition keep their order: Quix must see only the last one.
        for key, value in rows[:-1]:
            self._produce(topic, value, key, partition=partition, headers=headers)
        key, value = rows[-1]
        changelog.produce(key=key, value=value, headers=headers)

    def flush(self, changelog_offset: int | None = None) -> None:
        """Write the committed transaction to RocksDB."""
        if self._encoded:
            self.store_partition.write(self._encoded, changelog_offset)
        self._status = PartitionTransactionStatus.COMPLETE
