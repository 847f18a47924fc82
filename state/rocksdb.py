"""Opening and scanning the RocksDB database of one shard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict

_WRITE_BUFFER_BYTES = 8 * 1024 * 1024
_BLOCK_CACHE = Cache(32 * 1024 * 1024)
"""One block cache, shared by all databases of the process."""
_BLOOM_BITS_PER_KEY = 10
_MEMTABLE_BLOOM_SHARE = 0.1


def open_database(path: Path, *, read_only: bool = False) -> Rdict:
    """The RocksDB of one shard; keys and values are bytes."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)  # noqa: FBT003 - its only argument
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    # New users are looked up first: a miss must not read a block from every file.
    table = BlockBasedOptions()
    table.set_block_cache(_BLOCK_CACHE)
    table.set_bloom_filter(_BLOOM_BITS_PER_KEY, block_based=False)
    options.set_block_based_table_factory(table)
    options.set_memtable_whole_key_filtering(whole_key_filter=True)
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM_SHARE)
    path.parent.mkdir(parents=True, exist_ok=True)
    if read_only:
        return Rdict(str(path), options=options, access_type=AccessType.read_only())
    return Rdict(str(path), options=options)


def scan(
    database: Rdict, prefix: bytes, start: bytes | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Every (key, value) with this prefix, in key order; raises if the database is damaged.

    Begins at `start`, which has the prefix, if set.

    Rdict.items() silently ends at a block that it cannot read.
    """
    entries = database.iter()
    entries.seek(prefix if start is None else start)
    try:
        while entries.valid():
            key = entries.key()
            if not key.startswith(prefix):
                return
            yield key, entries.value()
            entries.next()
        entries.status()
    finally:
        # An iterator keeps the database open even after close(), and the traceback of an exception
        # keeps this frame's locals: keeping the exception must not keep the lock.
        del entries


def is_damage(error: Exception) -> bool:
    """Whether RocksDB reports corrupt or missing files.

    False for a lock or a full disk: the files are intact.
    """
    text = str(error)
    return text.startswith("Corruption:") or "No such file or directory" in text


def is_locked(error: Exception) -> bool:
    """Whether another process, or this one, has the database open already."""
    return "/LOCK: " in str(error)
