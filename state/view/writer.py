"""A batch of consumed records, written to the view atomically."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from rocksdict import WriteBatch

from segments.contracts.topics import PROGRESS_KEY_PREFIX
from segments.state.view import keys, members, responses
from segments.state.view.view import Marker, View, parse_marker

_PROGRESS = PROGRESS_KEY_PREFIX.encode()


Memberships = dict[str, dict[str, Any]]
"""The memberships of a public document: segment -> generation, since, expires_at, origin."""


class ViewBatch:
    """Collects the effects of records; `write` stores them together with their offsets.

    For waiters: `results` by command id, and the `advanced` partitions.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._batch = WriteBatch(raw_mode=True)
        self._documents: dict[bytes, tuple[bytes, dict[str, Any]] | None] = {}
        self._memberships: dict[bytes, Memberships] = {}
        self._sizes: dict[tuple[str, int], int] = {}
        self._chosen: dict[tuple[str, int], int] = {}
        self._definitions: dict[str, bytes] = {}
        self._markers: dict[int, bytes] = {}
        self._defined: dict[int, int] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self.results: dict[str, bytes] = {}
        self.advanced: list[int] = []

    def user(self, key: bytes, value: bytes | None) -> None:
        """Add a record of segments.users: a document or a progress marker."""
        if key.startswith(_PROGRESS):
            if value is not None:
                self._markers[int(key[len(_PROGRESS) :])] = value
            return
        user_key = keys.user_key(key.decode())
        before = self._memberships.get(user_key)
        if before is None:
            document = self._view.document(user_key)
            before = {} if document is None else document["segments"]
        if value is None:
            after: Memberships = {}
            self._documents[user_key] = None
        else:
            document = orjson.loads(value)
            after = document["segments"]
            self._documents[user_key] = (value, document)
        self._memberships[user_key] = after
        if before != after:
            self._index(user_key, before, after)

    def _index(self, user_key: bytes, before: Memberships, after: Memberships) -> None:
        for segment, held in before.items():
            kept = after.get(segment)
            if kept is None or not _same_count(kept, held):
                self._batch.delete(keys.member_key(segment, held["generation"], user_key))
                self._count(segment, held, -1)
        for segment, held in after.items():
            known = before.get(segment)
            if held != known:
                key = keys.member_key(segment, held["generation"], user_key)
                self._batch.put(
                    key, members.encode(held["since"], held["expires_at"], held["origin"])
                )
            if known is None or not _same_count(known, held):
                self._count(segment, held, 1)

    def _count(self, segment: str, held: dict[str, Any], difference: int) -> None:
        key = (segment, held["generation"])
        size = self._sizes.get(key)
        self._sizes[key] = difference + (self._view.size(*key) if size is None else size)
        if held["origin"] == "auto":
            chosen = self._chosen.get(key)
            before = self._view.chosen.get(key, 0) if chosen is None else chosen
            self._chosen[key] = before + difference

    def definition(self, key: bytes, value: bytes | None) -> None:
        """Add a record of segments.definitions."""
        if value is None:
            return
        partition, _, offset = orjson.loads(value)["position"].partition(":")
        self._definitions[key.decode()] = value
        self._defined[int(partition)] = int(offset)

    def result(self, key: bytes, value: bytes | None, at_ms: int) -> None:
        """Add a record of segments.results, appended at `at_ms`."""
        if value is None:
            return
        age_key = keys.result_age_key(max(at_ms, 0), key)
        self._batch.put(keys.RESULT_RANGE + key, age_key[1:9] + value)
        self._batch.put(age_key, b"")
        self.results[key.decode()] = value

    def forget_result(self, age_key: bytes) -> None:
        """Remove an old result, unless a newer one has the same command id."""
        self._batch.delete(age_key)
        result_key = keys.RESULT_RANGE + age_key[9:]
        stored = self._view.database.get(result_key)
        if stored is not None and stored[:8] == age_key[1:9]:
            self._batch.delete(result_key)

    def consumed(self, topic: str, partition: int, next_offset: int) -> None:
        """Set the next offset to consume; `topic`: its name in topics.yaml."""
        self._offsets[topic, partition] = next_offset

    def _put_documents(self) -> None:
        """Put the last document of each user and the response built from it."""
        batch = self._batch
        for user_key, last in self._documents.items():
            response_key, response = keys.response_key(user_key), None
            if last is None:
                batch.delete(user_key)
            else:
                batch.put(user_key, last[0])
                response = responses.encode(last[1])
            if response is None:
                batch.delete(response_key)
            else:
                batch.put(response_key, response)

    def _put_counts(
        self, key_of: Callable[[str, int], bytes], counts: dict[tuple[str, int], int]
    ) -> None:
        for generation, count in counts.items():
            if count > 0:
                self._batch.put(key_of(*generation), b"%d" % count)
            else:
                self._batch.delete(key_of(*generation))

    def write(self) -> None:
        """Write atomically, then update the view's in-memory state."""
        batch, view = self._batch, self._view
        self._put_documents()
        self._put_counts(keys.size_key, self._sizes)
        self._put_counts(keys.chosen_key, self._chosen)
        for segment, value in self._definitions.items():
            batch.put(keys.definition_key(segment), value)
        for partition, offset in self._defined.items():
            batch.put(keys.defined_key(partition), b"%d" % offset)
        for partition, value in self._markers.items():
            batch.put(keys.marker_key(partition), value)
        for (topic, partition), offset in self._offsets.items():
            batch.put(keys.offset_key(topic, partition), b"%d" % offset)
        view.mark_stale(self._sizes)
        view.database.write(batch)
        self._update_view({number: parse_marker(value) for number, value in self._markers.items()})

    def _update_view(self, markers: dict[int, Marker]) -> None:
        view, touched = self._view, set(self._sizes)
        for value in self._definitions.values():
            definition = orjson.loads(value)
            segment, newest = definition["segment"], definition["generation"]
            known = view.segments.get(segment)
            first = 0 if known is None else min(known.generation, newest)
            touched |= {(segment, number) for number in range(first, newest + 1)}
            view.register_definition(definition)
        _update_counts(view.sizes, self._sizes)
        _update_counts(view.chosen, self._chosen)
        view.drop_stale(touched)
        view.defined.update(self._defined)
        view.newest.update(markers)
        self.advanced = view.advance(sorted(markers.keys() | self._defined.keys()))


def _update_counts(counts: dict[tuple[str, int], int], changed: dict[tuple[str, int], int]) -> None:
    for key, count in changed.items():
        if count > 0:
            counts[key] = count
        else:
            counts.pop(key, None)


def _same_count(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two memberships of a segment are counted alike: same generation and origin."""
    return bool(one["generation"] == other["generation"] and one["origin"] == other["origin"])
