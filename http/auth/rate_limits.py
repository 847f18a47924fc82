"""How often a client may ask, and how often it may show credentials that are not good: 429 beyond.

Who is known is counted by name, all others by the address they come from. An address of IPv6 stands
for its network of 64 bits, which is what a single client is commonly given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from aiohttp import web

from segments.http.auth.authorization import Guard
from segments.http.auth.roles import ANONYMOUS, SUBJECT
from segments.http.problems import Problem
from segments.settings import Settings

EXEMPT = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes that may always be asked: whoever watches the service must not be locked out."""
SUBJECTS_MAX = 10_000
REFUSED_CODE = "credentials_invalid"
_SECOND_NS = 1_000_000_000
_PREFIX_BITS = 64


class RateLimiter:
    """Lets each subject pass `rate_per_s` times a second, and `burst` times at once after a rest.

    The generic cell rate algorithm: all that is kept of a subject is the instant from which on it
    is as good as new. Of more than `subjects_max` those are forgotten that passed longest ago.
    """

    def __init__(
        self,
        rate_per_s: float,
        burst: int,
        *,
        subjects_max: int = SUBJECTS_MAX,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._interval_ns = max(1, round(_SECOND_NS / rate_per_s))
        self._tolerance_ns = (burst - 1) * self._interval_ns
        self._subjects_max = subjects_max
        self._clock_ns = clock_ns
        self._new_at_ns: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """Subjects that are remembered."""
        return len(self._new_at_ns)

    def wait_ns(self, subject: Hashable) -> int:
        """How long until the subject may pass; 0 = now."""
        return max(0, self._new_at_ns.get(subject, 0) - self._clock_ns() - self._tolerance_ns)

    def take(self, subject: Hashable) -> int:
        """As `wait_ns`; a subject that may pass has passed."""
        now_ns = self._clock_ns()
        new_at_ns = max(self._new_at_ns.pop(subject, 0), now_ns)
        wait_ns = max(0, new_at_ns - now_ns - self._tolerance_ns)
        # Put last: the first one is always the one that passed, or tried to, longest ago.
        self._new_at_ns[subject] = new_at_ns if wait_ns else new_at_ns + self._interval_ns
        if len(self._new_at_ns) > self._subjects_max:
            del self._new_at_ns[next(iter(self._new_at_ns))]
        return wait_ns


class RateLimits:
    """The limits of one sidecar, put around the guards of its routes."""

    def __init__(self, settings: Settings) -> None:
        http = settings.http
        rate_per_s, per_min = http.rate_limit_per_s, http.failed_auth_per_min
        looked_at = settings.auth.mode != "none"
        self._requests = (
            None
            if rate_per_s is None
            else RateLimiter(rate_per_s, http.rate_burst or max(1, math.ceil(rate_per_s)))
        )
        self._failures = RateLimiter(per_min / 60, per_min) if looked_at and per_min else None

    def around(self, guard: Guard | None, path: str) -> Guard | None:
        """The guard of a route with the limits that hold there; itself where none does."""
        if guard is not None and self._failures is not None:
            guard = _against_guesses(guard, self._failures)
        if self._requests is None or path in EXEMPT:
            return guard
        return _limited(guard, self._requests)


LIMITS = web.AppKey("limits", RateLimits)


def _against_guesses(guard: Guard, failures: RateLimiter) -> Guard:
    async def check(request: web.Request) -> None:
        if "Authorization" not in request.headers:
            await guard(request)
            return
        address = client_address(request.remote)
        # Before anything is looked at: a right guess must not be told from a wrong one.
        if wait_ns := failures.wait_ns(address):
            raise _too_many("too many credentials that are not good came from there", wait_ns)
        try:
            await guard(request)
        except Problem as problem:
            if problem.code == REFUSED_CODE:
                failures.take(address)
            raise

    return check


def _limited(guard: Guard | None, requests: RateLimiter) -> Guard:
    async def check(request: web.Request) -> None:
        if guard is not None:
            await guard(request)
        subject = request.get(SUBJECT)
        known = subject is not None and subject is not ANONYMOUS
        # In a tuple, so that nobody's name is an address.
        counted = subject.name if known and subject else (client_address(request.remote),)
        if wait_ns := requests.take(counted):
            raise _too_many("too many requests", wait_ns)

    return check


def _too_many(detail: str, wait_ns: int) -> Problem:
    wait_s = max(1, math.ceil(wait_ns / _SECOND_NS))
    return Problem(429, "rate_limited", detail, headers={"Retry-After": str(wait_s)})


@lru_cache(maxsize=4_096)
def client_address(remote: str | None) -> str:
    """Where a client comes from: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return remote or ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            shift = address.max_prefixlen - _PREFIX_BITS
            return str(IPv6Address(int(address) >> shift << shift))
        return str(address.ipv4_mapped)
    return str(address)
