"""The view in RocksDB: documents, memberships by segment, definitions, results, progress.

One thread writes (`writer.ViewBatch`), any number of threads read. Each batch is one WriteBatch
that includes the consumed Kafka offsets: after a crash the view resumes from the stored offsets.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from rocksdict import Options, Rdict

from segments.contracts import times
from segments.contracts.user_ids import pack
from segments.state.rocksdb import is_damage
from segments.state.rocksdb import scan as scan_entries
from segments.state.view import keys, responses
from segments.state.view.members import IndexedMember
from segments.state.view.members import decode as decode_member
from segments.telemetry import logs

FORMAT = 3
_REBUILD_MARK = "rebuild"
_WRITE_BUFFER_BYTES = 32 * 1024 * 1024
_BLOCK_CACHE_BYTES = 64 * 1024 * 1024

log = logs.get(__name__)


class Marker(NamedTuple):
    """A progress marker. Documents are as of `log_time_ms`; history is complete up to `at_ms`.

    The two are far apart while a shard is still writing a deletion or an assignment.
    """

    log_offset: int
    at_ms: int
    history_rows: int
    defined: int
    log_time_ms: int


class SegmentGeneration(NamedTuple):
    """The newest generation of a segment, and whether it is deleted; filters memberships."""

    generation: int
    deleted: bool


def parse_marker(value: bytes) -> Marker:
    """Value of a progress record."""
    fields = orjson.loads(value)
    names = ("log_offset", "at", "history_rows", "defined", "log_time")
    return Marker._make(fields[name] for name in names)


class View:
    """An open view. Reads are safe from any thread and see a batch once it is written.

    `progress`: by partition, the newest marker up to which all records of its shard have been
    applied, documents as well as definitions. `stale`: each (segment, generation) that is deleted
    or superseded, but may still occur in documents. Both are replaced, never changed in place, so
    that readers can keep a consistent snapshot.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        expected = {**identity, "format": FORMAT}
        self._db = _open(folder, expected)
        if not self._try_load():
            self._db.close()
            self.require_rebuild()
            self._db = _open(folder, expected)
            self._load()

    def _try_load(self) -> bool:
        # A separate function: an iterator in a live traceback would keep the folder locked.
        try:
            self._load()
        except Exception as error:  # rocksdict raises bare Exceptions
            if not is_damage(error):
                raise
            return False
        return True

    def _load(self) -> None:
        self.complete = self._db.get(keys.COMPLETE_KEY) is not None
        self.segments: dict[str, SegmentGeneration] = {}
        self.sizes: dict[tuple[str, int], int] = {}
        self.chosen: dict[tuple[str, int], int] = {}
        self.filters: dict[str, frozenset[str]] = {}
        self.newest: dict[int, Marker] = {}
        self.defined: dict[int, int] = {}
        self.progress: dict[int, Marker] = {}
        self.stale: set[tuple[str, int]] = set()
        for _, value in self.scan(keys.DEFINITION_RANGE):
            self.register_definition(orjson.loads(value))
        for key, value in self.scan(keys.SIZE_RANGE):
            self.sizes[keys.parse_size_key(key)] = int(value)
        for key, value in self.scan(keys.CHOSEN_RANGE):
            self.chosen[keys.parse_size_key(key)] = int(value)
        for key, value in self.scan(keys.DEFINED_RANGE):
            self.defined[int.from_bytes(key[1:], "big")] = int(value)
        for key, value in self.scan(keys.MARKER_RANGE):
            self.newest[int.from_bytes(key[1:], "big")] = parse_marker(value)
        self.advance(self.newest)
        self.drop_stale(self.sizes)

    # --- reads ---

    def user(self, user_id: str) -> dict[str, Any] | None:
        """The document of a user as published, or None."""
        return self.document(keys.user_key(user_id))

    def document(self, user_key: bytes) -> dict[str, Any] | None:
        raw = self._db.get(user_key)
        if raw is None:
            return None
        document: dict[str, Any] = orjson.loads(raw)
        return document

    def response(self, user_id: str, now_ms: int) -> responses.StoredResponse | None:
        """The stored response about a user; None when it must be built from the document."""
        stale = self.stale
        stored = self._db.get(keys.RESPONSE_RANGE + pack(user_id))
        # The writer updates `stale` before it writes documents that contain such a generation, so
        # check again after the read.
        if stored is None or stale or self.stale is not stale:
            return None
        return responses.decode(stored, now_ms)

    def memberships(self, document: dict[str, Any], now_ms: int) -> dict[str, dict[str, Any]]:
        """The memberships in effect at `now_ms`: not expired, generation not deleted."""
        current = {}
        for segment, membership in document["segments"].items():
            expires_at = membership["expires_at"]
            if expires_at is not None and expires_at <= now_ms:
                continue
            if not self.is_stale(segment, membership["generation"]):
                current[segment] = membership
        return current

    def is_stale(self, segment: str, generation: int) -> bool:
        """Whether a generation is deleted or superseded."""
        known = self.segments.get(segment)
        # An unknown generation is newer: its definition has not been consumed yet.
        return known is not None and (
            generation < known.generation or (known.deleted and generation == known.generation)
        )

    def definition(self, segment: str) -> dict[str, Any] | None:
        """The newest definition of a segment, even a deleted one; None for an unknown name."""
        raw = self._db.get(keys.definition_key(segment))
        if raw is None:
            return None
        definition: dict[str, Any] = orjson.loads(raw)
        return definition

    def definitions(self, after: str, limit: int) -> list[dict[str, Any]]:
        """At most `limit` definitions of segments in use, by name, after the name `after`."""
        page: list[dict[str, Any]] = []
        start = keys.definition_key(after) + (b"\0" if after else b"")
        for _, raw in self.scan(keys.DEFINITION_RANGE, start):
            definition = orjson.loads(raw)
            if definition["state"] != "deleted":
                page.append(definition)
                if len(page) == limit:
                    break
        return page

    def size(self, segment: str, generation: int) -> int:
        """Number of members of a generation."""
        return self.sizes.get((segment, generation), 0)

    def referring_to(self, segment: str) -> list[str]:
        """Names of the automatic segments whose filters refer to this one, sorted."""
        return sorted(name for name, referred in self.filters.items() if segment in referred)

    def members(self, segment: str, generation: int, after: str, limit: int) -> list[IndexedMember]:
        """At most `limit` members sorted by user id, after the id `after`; includes expired ones.

        Continuing after the last id of each page returns every user who is a member throughout
        exactly once, whatever changes in between.
        """
        prefix = keys.members_prefix(segment, generation)
        start = prefix + pack(after) + b"\0" if after else prefix
        found = islice(self.scan(prefix, start), limit)
        return [decode_member(key[-16:], value) for key, value in found]

    def result(self, command_id: str) -> dict[str, Any] | None:
        """The newest result of a command; None when there is none or it was pruned."""
        raw = self._db.get(keys.result_key(command_id))
        if raw is None:
            return None
        result: dict[str, Any] = orjson.loads(raw[8:])
        return result

    def old_results(self, before_ms: int, limit: int, start: bytes | None = None) -> list[bytes]:
        """Age keys of at most `limit` results appended before `before_ms`, oldest first.

        `start`: an age key below which all entries are deleted, to skip their tombstones.
        """
        end = keys.result_age_key(max(before_ms, 0), b"")
        old: list[bytes] = []
        for key, _ in self.scan(keys.RESULT_AGE_RANGE, start):
            if key >= end or len(old) == limit:
                break
            old.append(key)
        return old

    def offsets(self) -> dict[tuple[str, int], int]:
        """Next offset to consume by (topic in topics.yaml, partition)."""
        return {keys.parse_offset_key(key): int(raw) for key, raw in self.scan(keys.OFFSET_RANGE)}

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Every entry with a prefix, in key order, from `start` on."""
        return scan_entries(self._db, prefix, start)

    # --- used by the writing thread only ---

    @property
    def database(self) -> Rdict:
        return self._db

    def register_definition(self, definition: dict[str, Any]) -> None:
        """Apply a definition to `segments` and `filters`."""
        self.segments[definition["segment"]] = SegmentGeneration(
            definition["generation"], definition["state"] == "deleted"
        )
        auto = definition["auto"]
        if auto is None:
            self.filters.pop(definition["segment"], None)
        else:
            self.filters[definition["segment"]] = frozenset(auto["include"] + auto["exclude"])

    def mark_stale(self, members: Mapping[tuple[str, int], int]) -> None:
        """Add generations that are stale and get members; call it before writing their sizes."""
        stale = {key for key, size in members.items() if size > 0 and self.is_stale(*key)}
        if not stale <= self.stale:
            self.stale = self.stale | stale

    def drop_stale(self, touched: Collection[tuple[str, int]]) -> None:
        """Update `stale` from the sizes and definitions of these generations."""
        stale = {key for key in touched if self.sizes.get(key) and self.is_stale(*key)}
        if stale != self.stale.intersection(touched):
            self.stale = self.stale.difference(touched) | stale

    def advance(self, partitions: Iterable[int]) -> list[int]:
        """Advance `progress` to the newest markers whose definitions are applied as well.

        Returns the partitions that advanced.
        """
        advanced = {}
        for partition in partitions:
            marker = self.newest.get(partition)
            if marker is not None and self.defined.get(partition, -1) >= marker.defined:
                advanced[partition] = marker
        if advanced:
            self.progress = self.progress | advanced
        return list(advanced)

    def mark_complete(self) -> None:
        """Record that the initial fill is done: from now on an absent user does not exist."""
        self._db.put(keys.COMPLETE_KEY, b"1")
        self.complete = True

    def require_rebuild(self) -> None:
        """Make the next start rebuild the view: its contents cannot be trusted or continued."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _REBUILD_MARK).touch()

    def close(self) -> None:
        """Close the database and release the folder's lock."""
        self._db.close()


def staleness_ms(marker: Marker) -> int:
    """Upper bound of the age (ms) of a response based on this marker."""
    return max(0, times.now_ms() - marker.log_time_ms)


def _open(folder: Path, identity: dict[str, Any]) -> Rdict:
    """Open the database; recreate it if it is damaged or was filled from other topics."""
    if (folder / _REBUILD_MARK).exists():
        log.warning("view_rebuild_started", reason="a rebuild was required")
        shutil.rmtree(folder)
    try:
        database, found = _open_existing(folder)
    except Exception as error:  # rocksdict raises bare Exceptions
        if not is_damage(error):
            raise
        log.warning("view_rebuild_started", reason=str(error))
        shutil.rmtree(folder)
        database, found = _open_existing(folder)
    expected = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
    if found is not None and found != expected:
        log.warning("view_rebuild_started", reason="filled from other topics")
        database.close()
        shutil.rmtree(folder)
        database, _ = _open_existing(folder)
    database.put(keys.IDENTITY_KEY, expected)
    return database


def _open_existing(folder: Path) -> tuple[Rdict, bytes | None]:
    """The database and the identity it was filled with; None for a new one."""
    database = _open_database(folder)
    try:
        return database, database.get(keys.IDENTITY_KEY)
    except BaseException:
        database.close()
        raise


def _open_database(folder: Path) -> Rdict:
    from rocksdict import BlockBasedOptions, Cache  # noqa: PLC0415 - used here only

    options = Options(raw_mode=True)
    options.create_if_missing(True)  # noqa: FBT003 - its only argument
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(_BLOCK_CACHE_BYTES))
    blocks.set_bloom_filter(10, block_based=False)
    options.set_block_based_table_factory(blocks)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Rdict(str(folder), options=options)
