"""The rate limiter compared with an exact token bucket; the address that a client counts as."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.http.auth.rate_limits import RateLimiter, client_address

SECOND_NS = 1_000_000_000
INTERVALS_NS = st.sampled_from([1_000, 3_333_333, 10_000_000, SECOND_NS, 7 * SECOND_NS])


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


class Bucket:
    """The oracle: up to `burst` tokens, one more every interval, one less with each pass."""

    def __init__(self, interval_ns: int, burst: int) -> None:
        self._interval_ns = interval_ns
        self._burst = burst
        self._tokens = Fraction(burst)
        self._at_ns: int | None = None

    def take(self, now_ns: int) -> int:
        if self._at_ns is not None:
            self._tokens += Fraction(now_ns - self._at_ns, self._interval_ns)
        self._tokens = min(Fraction(self._burst), self._tokens)
        self._at_ns = now_ns
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        missing = (1 - self._tokens) * self._interval_ns
        assert missing.denominator == 1
        return int(missing)


@given(
    interval_ns=INTERVALS_NS,
    burst=st.integers(1, 5),
    steps=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 1_000)), max_size=60
    ),
)
def test_it_is_a_token_bucket(
    interval_ns: int, burst: int, steps: list[tuple[str, int, int]]
) -> None:
    clock = Clock()
    limiter = RateLimiter(SECOND_NS / interval_ns, burst, clock_ns=clock)
    buckets = {subject: Bucket(interval_ns, burst) for subject in "ab"}
    for subject, tenths, extra_ns in steps:
        clock.now_ns += tenths * interval_ns // 10 + extra_ns
        wait_ns = limiter.wait_ns(subject)
        assert wait_ns == limiter.take(subject) == buckets[subject].take(clock.now_ns)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 200))
def test_never_more_than_burst_and_rate(burst: int, rate: int, requests: int) -> None:
    """In one second of requests at any rate."""
    clock = Clock()
    limiter = RateLimiter(rate, burst, clock_ns=clock)
    passed = 0
    for _ in range(requests + 1):
        passed += limiter.take("a") == 0
        clock.now_ns += SECOND_NS // (requests + 1)
    assert passed <= burst + rate


def test_a_rejected_subject_passes_after_the_wait() -> None:
    clock = Clock()
    limiter = RateLimiter(4, 2, clock_ns=clock)
    assert [limiter.take("a") for _ in range(4)] == [0, 0, SECOND_NS // 4, SECOND_NS // 4]
    clock.now_ns += SECOND_NS // 4 - 1
    assert limiter.take("a") == 1
    clock.now_ns += 1
    assert limiter.take("a") == 0
    assert limiter.take("b") == 0


def test_the_number_of_subjects_is_bounded_and_the_busiest_stay() -> None:
    clock = Clock()
    limiter = RateLimiter(1, 1, clients_max=10, clock_ns=clock)
    assert limiter.take("loud") == 0
    for number in range(1_000):
        assert limiter.take(number) == 0
        assert limiter.take("loud") > 0, "others must not make anybody forgotten who goes on"
        assert len(limiter) <= 10


def test_querying_the_wait_stores_no_subject() -> None:
    limiter = RateLimiter(1, 1)
    assert limiter.wait_ns("a") == 0
    assert len(limiter) == 0


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        (None, ""),
        ("/run/segments.sock", "/run/segments.sock"),
    ],
)
def test_addresses(remote: str | None, counted: str) -> None:
    assert client_address(remote) == counted
