"""The Quix store of a shard: decoded documents over RocksDB (design 8).

A document touched many times between two checkpoints is encoded once, at the commit: one changelog
row, one entry of one WriteBatch and, where other services see it, one public document.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from quixstreams.state.base import PartitionTransaction, Store, StorePartition
from quixstreams.state.base.transaction import PartitionTransactionStatus
from rocksdict import AccessType, Options, Rdict, WriteBatch

from segments import logs, metrics
from segments.state.documents import encode, user_key
from segments.state.outputs import progress_marker, public_document
from segments.state.shard import Config, Shard

CHANGELOG_OFFSET_KEY = b"\0changelog_offset"
RECOVERY_BATCH_ROWS = 5_000
CACHED_DOCUMENTS = 20_000
_WRITE_BUFFER_BYTES = 16 * 1024 * 1024

log = logs.get(__name__)


PublishDocument = Callable[[int, str, bytes], None]
"""(partition, key, value) -> produced to segments.users inside the checkpoint's transaction."""


def open_database(path: Path, *, read_only: bool = False) -> Rdict:
    """The RocksDB of one shard; keys and values are bytes."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)  # noqa: FBT003 - its only argument
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    path.parent.mkdir(parents=True, exist_ok=True)
    if read_only:
        return Rdict(str(path), options=options, access_type=AccessType.read_only())
    return Rdict(str(path), options=options)


def partition_path(state_dir: Path, partition: int) -> Path:
    return state_dir / str(partition)


class ShardPartition(StorePartition):
    """One shard's documents. Implements `segments.state.documents.State` for its machine."""

    def __init__(
        self, path: Path, changelog: Any, config: Config, publish_document: PublishDocument
    ) -> None:
        super().__init__(orjson.dumps, orjson.loads, changelog)
        self._path = path
        self._config = config
        self._publish_document = publish_document
        self._db = self._open()
        self._cache: dict[bytes, Any] = {}
        self._dirty: dict[bytes, None] = {}
        self._published: dict[str, None] = {}
        self._recovered = WriteBatch(raw_mode=True)
        self._recovered_offset: int | None = None
        self._shard: Shard | None = None

    def _open(self) -> Rdict:
        try:
            return open_database(self._path)
        except Exception as error:  # rocksdict raises bare Exceptions
            if "lock" in str(error).lower():
                raise
            log.warning("state is damaged, restoring it from the changelog", error=str(error))
            shutil.rmtree(self._path)
            return open_database(self._path)

    @property
    def shard(self) -> Shard:
        """The machine; built from the documents at first use, after the recovery."""
        if self._shard is None:
            self._write_recovered()
            started = time.monotonic()
            self._shard = Shard(self._config, self)
            log.info(
                "shard ready",
                partition=self._config.partition,
                offset=self._shard.shard["offset"],
                users=self._shard.shard["next_ordinal"],
                rebuild_ms=round((time.monotonic() - started) * 1000),
            )
        return self._shard

    # --- State ---

    def get(self, key: bytes, cf_name: str = "default") -> Any:  # noqa: ARG002 - Quix's signature
        """The live document, or None."""
        if key in self._cache:
            return self._cache[key]
        raw = self._db.get(key)
        if raw is None:
            return None
        document = self._cache[key] = orjson.loads(raw)
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
        entries: Any = self._db.items(from_key=prefix)
        for key, raw in entries:
            if not key.startswith(prefix):
                return
            yield key, orjson.loads(raw)

    def publish(self, user_id: str) -> None:
        self._published[user_id] = None

    # --- checkpoint ---

    @property
    def changed(self) -> bool:
        return bool(self._dirty)

    def begin(self) -> ShardTransaction:
        return ShardTransaction(self, self._changelog_producer)

    def encode_changes(self) -> dict[bytes, bytes | None]:
        """Every changed document, encoded; None = deleted."""
        cache = self._cache
        return {key: None if cache[key] is None else encode(cache[key]) for key in self._dirty}

    def publish_changes(self) -> None:
        """Produce the public documents, then the marker that says they are complete."""
        partition = self._config.partition
        for user_id in self._published:
            user = self.get(user_key(user_id))
            self._publish_document(partition, user_id, public_document(partition, user_id, user))
        shard = self.shard
        marker = progress_marker(shard.shard, shard.complete_at_ms())
        self._publish_document(partition, f"!progress/{partition}", marker)
        self._published.clear()

    def write(self, cache: Any, changelog_offset: int | None) -> None:
        """Write encoded changes and the changelog's offset at once."""
        batch = WriteBatch(raw_mode=True)
        for key, value in cache.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if changelog_offset is not None:
            batch.put(CHANGELOG_OFFSET_KEY, str(changelog_offset).encode())
        self._db.write(batch)
        self._dirty.clear()
        self._trim_cache()

    def _trim_cache(self) -> None:
        surplus = len(self._cache) - CACHED_DOCUMENTS
        if surplus > 0:
            for key in list(self._cache)[:surplus]:
                del self._cache[key]

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
        self._write_recovered()
        self._db.close()


class ShardTransaction(PartitionTransaction):  # type: ignore[type-arg]
    """The life of one checkpoint over a `ShardPartition`."""

    def __init__(self, partition: ShardPartition, changelog: Any) -> None:
        super().__init__(partition, orjson.dumps, orjson.loads, changelog)
        self.store_partition = partition
        self._encoded: dict[bytes, bytes | None] = {}
        self._started = time.monotonic()

    @property
    def changed(self) -> bool:
        return self.store_partition.changed

    def prepare(self, processed_offsets: dict[str, int] | None = None) -> None:
        """Produce changelog rows and public documents into the checkpoint's transaction."""
        if self.changed:
            self._produce_changes(processed_offsets)
        self._status = PartitionTransactionStatus.PREPARED

    def _produce_changes(self, processed_offsets: dict[str, int] | None) -> None:
        self.store_partition.publish_changes()
        self._encoded = self.store_partition.encode_changes()
        changelog = self._changelog_producer
        assert changelog is not None, "the state of a shard has a changelog"
        headers: dict[str, str | bytes] = {
            "__column_family__": "default",
            "__processed_tp_offsets__": orjson.dumps(processed_offsets),
        }
        for key, value in self._encoded.items():
            changelog.produce(key=key, value=value, headers=headers)

    def flush(self, changelog_offset: int | None = None) -> None:
        """The transaction is committed: write what it said to RocksDB."""
        if self._encoded:
            self.store_partition.write(self._encoded, changelog_offset)
        self._status = PartitionTransactionStatus.COMPLETE
        metrics.CHECKPOINT_SECONDS.labels("shards").observe(time.monotonic() - self._started)


class ShardStore(Store):
    """All shards of this process. `configure(partition)` gives a shard's config."""

    def __init__(
        self,
        name: str,
        stream_id: str,
        base_dir: Path,
        changelogs: Any,
        configure: Callable[[int], Config],
        publish_document: PublishDocument,
    ) -> None:
        super().__init__(name, stream_id)
        self._base_dir = base_dir
        self._changelogs = changelogs
        self._configure = configure
        self._publish_document = publish_document

    def create_new_partition(self, partition: int) -> ShardPartition:
        return ShardPartition(
            partition_path(self._base_dir, partition),
            self._changelogs.get_partition_producer(partition),
            self._configure(partition),
            self._publish_document,
        )

    def destroy_partition(self, partition: int) -> bool:
        """Remove what is stored here; the changelog keeps it."""
        path = partition_path(self._base_dir, partition)
        existed = path.exists()
        shutil.rmtree(path, ignore_errors=True)
        return existed
