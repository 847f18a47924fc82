"""Registers a custom state store with Quix Streams and provides access to it.

Only this module and `quix` use private names of the library.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from quixstreams import Application
from quixstreams.models.topics import TopicConfig
from quixstreams.state.base import Store

from segments.settings import Settings
from segments.streams import quix

STORE_NAME = "default"
# The stream's own id, so that the name of its state never depends on the topics it reads.
SHARDS_STREAM = "shards"


class StoreAccess:
    """The custom store of a stateful application, within and between its checkpoints."""

    def __init__(self, app: Application, store: Store) -> None:
        self._context = app._processing_context  # noqa: SLF001
        self._store = store
        self._checkpoint: Any = None
        self._partitions: dict[int, Any] = {}

    def partition(self, partition: int) -> Any:
        """The store's partition, taking part in the open checkpoint."""
        checkpoint = self._context.checkpoint
        if checkpoint is not self._checkpoint:
            self._checkpoint = checkpoint
            self._partitions = {}
        stored = self._partitions.get(partition)
        if stored is None:
            transaction = checkpoint.get_store_transaction(SHARDS_STREAM, partition, STORE_NAME)
            stored = transaction.store_partition  # type: ignore[attr-defined]
            self._partitions[partition] = stored
        return stored

    def assigned(self) -> list[tuple[int, Any]]:
        """(partition, store partition) of all that are restored; empty during a recovery."""
        if self._context.state_manager.recovery_required:
            return []
        return list(self._store.partitions.items())


def stateful(
    app: quix.DirectApplication,
    settings: Settings,
    topic_name: str,
    make_store: Callable[[str, str, Path, Any], Store],
    handler: quix.RecordHandler,
) -> StoreAccess:
    """Call `handler` for every record of a topic, with a custom store.

    `make_store(name, stream id, base folder, changelog producer factory)`. Quix registers only
    its own store types (upstream issue 1014), so the store is registered manually.
    """
    sdf = app.dataframe(quix.bytes_topic(app, settings, topic_name))
    # The state's name follows the stream's id, which by default is derived from topic names.
    sdf = sdf.__dataframe_clone__(stream=sdf.stream, stream_id=SHARDS_STREAM)
    manager = app._state_manager  # noqa: SLF001
    changelogs = manager._setup_changelogs(  # noqa: SLF001
        SHARDS_STREAM,
        STORE_NAME,
        TopicConfig(
            num_partitions=settings.partitions,
            replication_factor=settings.kafka.replication_factor,
            extra_config={},
        ),
    )
    base_dir = manager._state_dir  # noqa: SLF001
    assert base_dir is not None, "the application has a state_dir"
    store = make_store(STORE_NAME, SHARDS_STREAM, base_dir, changelogs)
    manager._stores.setdefault(SHARDS_STREAM, {})[STORE_NAME] = store  # noqa: SLF001
    app.handle(settings.topic(topic_name), handler)
    return StoreAccess(app, store)
