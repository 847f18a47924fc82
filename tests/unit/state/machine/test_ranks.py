"""Ranks: equality with the reference hash, and independence between segments."""

from __future__ import annotations

import random

import numpy as np
import pytest
import xxhash

from segments.state.machine import ranks

USERS = 100_000
# The 99.99 % quantile of chi-square with one degree of freedom.
CHI_SQUARE_BOUND = 15.14


def random_ids(count: int, seed: int) -> tuple[bytes, np.ndarray]:
    raw = random.Random(seed).randbytes(16 * count)
    return raw, np.frombuffer(raw, dtype="<u8").reshape(-1, 2)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1, ranks.seed_of("A", 1)])
def test_vectorized_ranks_equal_the_reference_hash(seed: int) -> None:
    raw, ids = random_ids(2_000, seed)
    found = ranks.ranks_of(seed, ids).tolist()
    assert found == [
        xxhash.xxh3_64_intdigest(raw[at : at + 16], seed) for at in range(0, len(raw), 16)
    ]
    assert ranks.place_of(seed, raw[:16]) == (found[0], raw[:16].hex())


def test_ranks_of_an_empty_array() -> None:
    assert len(ranks.ranks_of(7, np.empty((0, 2), dtype="<u8"))) == 0


def test_the_bucket_of_a_number_and_the_ranks_in_it() -> None:
    _, ids = random_ids(5_000, 3)
    found = ranks.ranks_of(ranks.seed_of("A", 1), ids)
    counts = ranks.histogram(found)
    in_order = sorted(found.tolist())
    for number in (1, 2, 777, 5_000):
        bucket, before = ranks.bucket_of(counts, number)
        inside = sorted(found[ranks.in_bucket(found, bucket)].tolist())
        assert inside[number - before - 1] == in_order[number - 1]
    with pytest.raises(ValueError, match="rank number 5001 of 5000"):
        ranks.bucket_of(counts, 5_001)


def test_proportional_place() -> None:
    _, ids = random_ids(USERS, 4)
    found = ranks.ranks_of(ranks.seed_of("A", 1), ids)
    inside = int((found <= np.uint64(ranks.proportional(250_000).rank)).sum())
    assert abs(inside - USERS / 4) < 700  # five standard deviations
    assert ranks.proportional(1_000_000).rank == ranks.MAX_RANK


def chi_square(first: np.ndarray, second: np.ndarray) -> float:
    """Of the two-by-two table of being among the lowest 10 % of each order."""
    tenth = USERS // 10
    lowest = [np.zeros(USERS, dtype=bool) for _ in range(2)]
    for chosen, order in zip(lowest, (first, second), strict=True):
        chosen[np.argsort(order)[:tenth]] = True
    total = 0.0
    for one in (lowest[0], ~lowest[0]):
        for other in (lowest[1], ~lowest[1]):
            expected = one.sum() * other.sum() / USERS
            total += float(((one & other).sum() - expected) ** 2 / expected)
    return total


@pytest.mark.parametrize(
    ("first", "second"), [(("A", 1), ("B", 1)), (("A", 1), ("A", 2)), (("beta", 1), ("beta2", 1))]
)
def test_ranks_in_two_segments_are_independent(
    first: tuple[str, int], second: tuple[str, int]
) -> None:
    _, ids = random_ids(USERS, 5)
    orders = [ranks.ranks_of(ranks.seed_of(*key), ids) for key in (first, second)]
    assert chi_square(*orders) < CHI_SQUARE_BOUND


def test_the_bound_finds_a_hash_that_shares_its_seed() -> None:
    _, ids = random_ids(USERS, 5)
    shared = ranks.ranks_of(0, ids)
    # What a service gets that hashes the user alone, and adds the segment afterwards.
    other = shared ^ np.uint64(ranks.seed_of("B", 1) & 0xFFFF)
    assert chi_square(shared, other) > 1_000 * CHI_SQUARE_BOUND
