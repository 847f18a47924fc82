"""Responses about users, encoded when their documents arrive, so that a GET is one read.

A stored response is valid until the first of its memberships expires. Memberships of deleted
segments are handled by the view (`View.stale`).
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import orjson

from segments.contracts.times import to_rfc3339

MEMBERSHIPS_MAX = 64
"""Responses about users with more are built on request: storing them makes each change costly."""

_NO_EXPIRY_MS = 2**63 - 1
_HEAD = Struct(">QI24s")


class StoredResponse(NamedTuple):
    """`body`: JSON with user_id, account, segments. `partition`: shard of the user."""

    partition: int
    digest: str
    body: bytes


def membership(segment: str, held: dict[str, Any]) -> dict[str, Any]:
    """Membership of a public document with times as RFC 3339."""
    expires_at = held["expires_at"]
    return {
        "segment": segment,
        "since": to_rfc3339(held["since"]),
        "expires_at": None if expires_at is None else to_rfc3339(expires_at),
        "origin": held["origin"],
    }


def body(document: dict[str, Any], held: dict[str, dict[str, Any]]) -> bytes:
    """Encode the response about a user with these memberships; sorted by segment name."""
    return orjson.dumps(
        {
            "user_id": document["user_id"],
            "account": document["account"],
            "segments": [membership(segment, held[segment]) for segment in sorted(held)],
        }
    )


def digest(response: bytes) -> str:
    """BLAKE2b digest of a response body, 24 hexadecimal characters."""
    return blake2b(response, digest_size=12).hexdigest()


def encode(document: dict[str, Any]) -> bytes | None:
    """Encode the response to store with a user's document; None when none is stored.

    It contains every membership and is valid until the first of them expires.
    """
    held = document["segments"]
    if document["account"] == "deleted" or len(held) > MEMBERSHIPS_MAX:
        return None
    ends = [each["expires_at"] for each in held.values() if each["expires_at"] is not None]
    response = body(document, held)
    partition = int(document["position"].partition(":")[0])
    head = _HEAD.pack(min(ends, default=_NO_EXPIRY_MS), partition, digest(response).encode())
    return head + response


def decode(stored: bytes, now_ms: int) -> StoredResponse | None:
    """Decode a stored response; None when it is no longer valid at `now_ms`."""
    valid_until_ms, partition, hexadecimal = _HEAD.unpack_from(stored)
    if valid_until_ms <= now_ms:
        return None
    return StoredResponse(partition, hexadecimal.decode(), stored[_HEAD.size :])
