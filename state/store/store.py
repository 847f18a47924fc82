"""All shards of one process, as a store of Quix Streams."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quixstreams.state.base import Store

from segments.state.machine.config import Config
from segments.state.store.partition import (
    CACHE_BYTES,
    Produce,
    ShardPartition,
    StoreContext,
    partition_path,
)


class ShardStore(Store):
    """All shards of this process. `configure(partition)` returns a shard's config.

    `users_topic`: segments.users on the cluster.
    """

    def __init__(
        self,
        name: str,
        stream_id: str,
        base_dir: Path,
        changelogs: Any,
        *,
        configure: Callable[[int], Config],
        users_topic: str,
        produce: Produce,
    ) -> None:
        super().__init__(name, stream_id)
        self._base_dir = base_dir
        self._changelogs = changelogs
        self._configure = configure
        self._context = StoreContext(users_topic, produce, self._cache_bytes)

    def _cache_bytes(self) -> int:
        return CACHE_BYTES // max(1, len(self.partitions))

    def create_new_partition(self, partition: int) -> ShardPartition:
        return ShardPartition(
            partition_path(self._base_dir, partition),
            self._changelogs.get_partition_producer(partition),
            self._configure(partition),
            context=self._context,
        )

    def destroy_partition(self, partition: int) -> bool:
        """Delete the local store; the changelog remains."""
        path = partition_path(self._base_dir, partition)
        existed = path.exists()
        shutil.rmtree(path, ignore_errors=True)
        return existed
