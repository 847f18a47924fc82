"""Digest of a shard's whole state, independent of the storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from segments.state.machine.documents import encode


def digest(entries: Iterable[tuple[bytes, Any]]) -> str:
    """SHA-256 (hex) over (key, document) in key order; the order inside objects does not count."""
    sha = hashlib.sha256()
    for key, document in entries:
        value = encode(document, sort_keys=True)
        sha.update(b"%d:%d:" % (len(key), len(value)))
        sha.update(key)
        sha.update(value)
    return sha.hexdigest()


class MemoryState:
    """In-memory `documents.DocumentStore`, for replays."""

    def __init__(self) -> None:
        self._documents: dict[bytes, Any] = {}

    def get(self, key: bytes) -> Any:
        return self._documents.get(key)

    def put(self, key: bytes, document: Any) -> None:
        self._documents[key] = document

    def delete(self, key: bytes) -> None:
        self._documents.pop(key, None)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Any]]:
        for key in sorted(self._documents):
            if key.startswith(prefix):
                yield key, self._documents[key]

    def publish(self, user_id: str) -> None:
        """A replay publishes nothing."""
