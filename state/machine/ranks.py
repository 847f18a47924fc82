"""Ranks: a fixed pseudo-random order of all users for each generation of a segment.

The rank of a user is xxh3_64 of the 16 bytes of its id. The seed is derived from the segment's name
and generation, so that two segments order the same users independently. `ranks_of` vectorizes
`XXH3_len_9to16_64b` of xxHash 0.8 (XXH3 by Yann Collet) over arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from segments.contracts.log import BUCKETS
from segments.contracts.user_ids import USER_ID_BYTES

_ID_BITS = 8 * USER_ID_BYTES
MAX_RANK = 2**64 - 1
BUCKET_BITS = BUCKETS.bit_length() - 1

Ranks = NDArray[np.uint64]

# Bytes 24 to 55 of XXH3's default secret, as little-endian words.
_SECRET = (0x1F67B3B7A4A44072, 0x78E5C0CC4EE679CB, 0x2172FFCC7DD05A82, 0x8E2443F7744608B8)
_PRIME = 0x165667919E3779F9
_LOW_HALF = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class Place(NamedTuple):
    """Position in the order: the rank, ties broken by user id (32 hexadecimal digits)."""

    rank: int
    user: str

    def predecessor(self) -> Place:
        """The place directly before this one; rank -1 when this is the first place."""
        rank, user = divmod((self.rank << _ID_BITS) + int(self.user, 16) - 1, 1 << _ID_BITS)
        return Place(rank, f"{user:032x}")


LAST_PLACE = Place(MAX_RANK, "f" * 32)


def seed_of(segment: str, generation: int) -> int:
    """The seed of a segment's generation."""
    seed: int = xxhash.xxh3_64_intdigest(f"{segment}/{generation}".encode())
    return seed


def place_of(seed: int, user: bytes) -> Place:
    """The place of one user; `user` is the 16 bytes of the id."""
    return Place(xxhash.xxh3_64_intdigest(user, seed), user.hex())


def ranks_of(seed: int, ids: NDArray[Any]) -> Ranks:
    """Rank of each id. `ids` has shape (n, 2): two little-endian 64-bit words per id."""
    if len(ids) == 0:
        return np.empty(0, dtype=np.uint64)
    flip_low = np.uint64(((_SECRET[0] ^ _SECRET[1]) + seed) % 2**64)
    flip_high = np.uint64(((_SECRET[2] ^ _SECRET[3]) - seed) % 2**64)
    low = ids[:, 0] ^ flip_low
    high = ids[:, 1] ^ flip_high
    mixed = np.uint64(USER_ID_BYTES) + low.byteswap() + high + _folded_product(low, high)
    mixed ^= mixed >> np.uint64(37)
    mixed *= np.uint64(_PRIME)
    mixed ^= mixed >> _HALF
    return mixed


def _folded_product(a: Ranks, b: Ranks) -> Ranks:
    """XOR of the halves of the 128-bit product (`XXH3_mul128_fold64`)."""
    a_low, a_high = a & _LOW_HALF, a >> _HALF
    b_low, b_high = b & _LOW_HALF, b >> _HALF
    low_high = a_low * b_high
    middle = a_high * b_low + ((a_low * b_low) >> _HALF) + (low_high & _LOW_HALF)
    upper: Ranks = a_high * b_high + (middle >> _HALF) + (low_high >> _HALF)
    return upper ^ (a * b)


def histogram(ranks: Ranks) -> list[int]:
    """Number of ranks in each bucket; a rank's bucket is its top 12 bits."""
    buckets = (ranks >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    counts: list[int] = np.bincount(buckets, minlength=BUCKETS).tolist()
    return counts


def bucket_of(counts: Iterable[int], number: int) -> tuple[int, int]:
    """(bucket of the `number`-th lowest rank, number of ranks in lower buckets); counts from 1.

    ValueError when there are fewer ranks.
    """
    before = 0
    for bucket, count in enumerate(counts):
        if before + count >= number:
            return bucket, before
        before += count
    raise ValueError(f"rank number {number} of {before}")


def in_bucket(ranks: Ranks, bucket: int) -> NDArray[np.bool_]:
    """Mask of the ranks in a bucket."""
    mask: NDArray[np.bool_] = (ranks >> np.uint64(64 - BUCKET_BITS)) == np.uint64(bucket)
    return mask


def proportional(parts_per_million: int) -> Place:
    """Last place of the lowest `parts_per_million` of all possible places."""
    return Place((parts_per_million << 64) // 1_000_000 - 1, "f" * 32)
