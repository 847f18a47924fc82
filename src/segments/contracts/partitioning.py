"""Partition of a key, computed as Kafka's Java client does.

Source: `org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner.partitionForKey`
of Apache Kafka; MurmurHash2 is by Austin Appleby (public domain).
"""

from __future__ import annotations

from functools import lru_cache
from struct import unpack_from

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """32-bit MurmurHash2 with Kafka's seed, as an unsigned integer."""
    length = len(data)
    h = _SEED ^ length
    tail = length & ~3
    for word in unpack_from(f"<{length >> 2}I", data):
        k = word * _M & _MASK
        h = h * _M & _MASK ^ (k ^ k >> 24) * _M & _MASK
    if length > tail:
        h = (h ^ int.from_bytes(data[tail:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """Partition of a user id (canonical lower case) or of a segment name."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
