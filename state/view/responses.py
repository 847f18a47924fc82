"""Responses about users, encoded when their documents arrive, so that a GET is one read.

What is kept with an answer says until when it holds: a membership that ends makes another one true.
Segments that are deleted meanwhile are the view's business (`View.dead`).
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import orjson

from segments.contracts.times import to_rfc3339

MEMBERSHIPS_MAX = 64
"""Users with more are answered from their document: their answer would cost every change dearly."""

_MAX_INSTANT_MS = 2**63 - 1
_HEAD = Struct(">QI24s")


class StoredResponse(NamedTuple):
    """`body` is JSON: user_id, account, segments. `partition` is that of the user's shard."""

    partition: int
    digest: str
    body: bytes


def membership(segment: str, held: dict[str, Any]) -> dict[str, Any]:
    """One membership of a public document, with its instants as RFC 3339."""
    expires_at = held["expires_at"]
    return {
        "segment": segment,
        "since": to_rfc3339(held["since"]),
        "expires_at": None if expires_at is None else to_rfc3339(expires_at),
        "origin": held["origin"],
    }


def body(document: dict[str, Any], held: dict[str, dict[str, Any]]) -> bytes:
    """The answer about a user of whose memberships these count; sorted by segment name."""
    return orjson.dumps(
        {
            "user_id": document["user_id"],
            "account": document["account"],
            "segments": [membership(segment, held[segment]) for segment in sorted(held)],
        }
    )


def digest(made: bytes) -> str:
    """24 hexadecimal characters, different for different answers."""
    return blake2b(made, digest_size=12).hexdigest()


def encode(document: dict[str, Any]) -> bytes | None:
    """What to keep: every membership counts, until the first one ends. None = nothing to keep."""
    held = document["segments"]
    if document["account"] == "deleted" or len(held) > MEMBERSHIPS_MAX:
        return None
    ends = [each["expires_at"] for each in held.values() if each["expires_at"] is not None]
    made = body(document, held)
    partition = int(document["position"].partition(":")[0])
    head = _HEAD.pack(min(ends, default=_MAX_INSTANT_MS), partition, digest(made).encode())
    return head + made


def decode(kept: bytes, now_ms: int) -> StoredResponse | None:
    """The answer, if it still holds at this instant."""
    ends_at_ms, partition, hexadecimal = _HEAD.unpack_from(kept)
    if ends_at_ms <= now_ms:
        return None
    return StoredResponse(partition, hexadecimal.decode(), kept[_HEAD.size :])
