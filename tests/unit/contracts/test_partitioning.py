"""The partitioner, against test vectors of the Java client."""

from __future__ import annotations

from collections import Counter

import pytest

from segments.contracts.partitioning import murmur2, partition_of

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA.items())
def test_the_hash_is_that_of_the_java_client(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


def test_sign_bit_is_cleared_as_in_java() -> None:
    assert partition_of("foobar", 8) == (-790332482 & 0x7FFFFFFF) % 8
    assert partition_of("foobar", 7) == (-790332482 & 0x7FFFFFFF) % 7 != 790332482 % 7


def test_keys_of_any_length_and_script_have_a_partition() -> None:
    for key in ("", "a", "ab", "abc", "abcd", "ключ", "x" * 1000):
        assert 0 <= partition_of(key, 5) < 5
    assert partition_of("ключ", 2**31) == murmur2("ключ".encode()) & 0x7FFFFFFF


def test_users_are_distributed_evenly() -> None:
    partitions = Counter(partition_of(f"00000000-0000-0000-0000-{n:012x}", 8) for n in range(8_000))
    assert min(partitions.values()) > 850
