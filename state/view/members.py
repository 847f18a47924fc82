"""Values of the membership index: the fields shown for each member of a segment."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from segments.contracts.documents import Origin

_NO_EXPIRY_MS = -1
_VALUE = Struct(">qqB")
_ORIGINS: tuple[Origin, ...] = ("command", "auto")


class IndexedMember(NamedTuple):
    """An entry of the index. `user`: the 16 bytes of the id."""

    user: bytes
    since_ms: int
    expires_at_ms: int | None
    origin: Origin


def encode(since_ms: int, expires_at_ms: int | None, origin: str) -> bytes:
    """Encode a membership in 17 bytes."""
    end = _NO_EXPIRY_MS if expires_at_ms is None else expires_at_ms
    return _VALUE.pack(since_ms, end, origin == "auto")


def decode(user: bytes, value: bytes) -> IndexedMember:
    """Decode an entry; `user`: the 16 bytes of the id, from its key."""
    since_ms, end, origin = _VALUE.unpack(value)
    return IndexedMember(user, since_ms, None if end == _NO_EXPIRY_MS else end, _ORIGINS[origin])
