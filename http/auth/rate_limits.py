"""Rate limits for requests and for invalid credentials: 429 beyond them.

Authenticated clients are counted by name, all others by address. An IPv6 address counts as its /64
network, which is what a single client usually gets.
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
"""Routes without a limit: monitoring must not be locked out."""
CLIENTS_MAX = 10_000
INVALID_CREDENTIALS = "credentials_invalid"
_SECOND_NS = 1_000_000_000
_PREFIX_BITS = 64


class RateLimiter:
    """Allows each client `rate_per_s` requests a second, and `burst` at once after a pause.

    The generic cell rate algorithm (GCRA, ITU-T I.371): per client it keeps only the theoretical
    arrival time, at which the full burst is available again. Beyond `clients_max`, it forgets the
    clients whose last request is the oldest.
    """

    def __init__(
        self,
        rate_per_s: float,
        burst: int,
        *,
        clients_max: int = CLIENTS_MAX,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._interval_ns = max(1, round(_SECOND_NS / rate_per_s))
        self._tolerance_ns = (burst - 1) * self._interval_ns
        self._clients_max = clients_max
        self._clock_ns = clock_ns
        self._full_at_ns: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """How many clients are remembered."""
        return len(self._full_at_ns)

    def wait_ns(self, client: Hashable) -> int:
        """How long until the client may make a request, in ns; 0 = now."""
        return max(0, self._full_at_ns.get(client, 0) - self._clock_ns() - self._tolerance_ns)

    def take(self, client: Hashable) -> int:
        """Like `wait_ns`; if it is 0, the request is counted."""
        now_ns = self._clock_ns()
        full_at_ns = max(self._full_at_ns.pop(client, 0), now_ns)
        wait_ns = max(0, full_at_ns - now_ns - self._tolerance_ns)
        # Reinserted at the end: the first entry is always the one used longest ago.
        self._full_at_ns[client] = full_at_ns if wait_ns else full_at_ns + self._interval_ns
        if len(self._full_at_ns) > self._clients_max:
            del self._full_at_ns[next(iter(self._full_at_ns))]
        return wait_ns


class RateLimits:
    """The limits of one sidecar, wrapped around the guards of its routes."""

    def __init__(self, settings: Settings) -> None:
        http = settings.http
        rate_per_s, per_min = http.rate_limit_per_s, http.failed_auth_per_min
        authenticates = settings.auth.mode != "none"
        self._requests = (
            None
            if rate_per_s is None
            else RateLimiter(rate_per_s, http.rate_burst or max(1, math.ceil(rate_per_s)))
        )
        self._failures = RateLimiter(per_min / 60, per_min) if authenticates and per_min else None

    def wrap(self, guard: Guard | None, path: str) -> Guard | None:
        """The guard of a route with the limits that apply to it; unchanged if none does."""
        if guard is not None and self._failures is not None:
            guard = _limit_failures(guard, self._failures)
        if self._requests is None or path in EXEMPT:
            return guard
        return _limit_requests(guard, self._requests)


LIMITS = web.AppKey("limits", RateLimits)


def _limit_failures(guard: Guard, failures: RateLimiter) -> Guard:
    async def check(request: web.Request) -> None:
        if "Authorization" not in request.headers:
            await guard(request)
            return
        address = client_address(request.remote)
        # Before verification, so that a correct guess cannot be distinguished from a wrong one.
        if wait_ns := failures.wait_ns(address):
            raise _too_many("too many invalid credentials from this address", wait_ns)
        try:
            await guard(request)
        except Problem as problem:
            if problem.code == INVALID_CREDENTIALS:
                failures.take(address)
            raise

    return check


def _limit_requests(guard: Guard | None, requests: RateLimiter) -> Guard:
    async def check(request: web.Request) -> None:
        if guard is not None:
            await guard(request)
        subject = request.get(SUBJECT)
        known = subject is not None and subject is not ANONYMOUS
        # In a tuple, so that no name is equal to an address.
        counted = subject.name if known and subject else (client_address(request.remote),)
        if wait_ns := requests.take(counted):
            raise _too_many("too many requests", wait_ns)

    return check


def _too_many(detail: str, wait_ns: int) -> Problem:
    wait_s = max(1, math.ceil(wait_ns / _SECOND_NS))
    return Problem(429, "rate_limited", detail, headers={"Retry-After": str(wait_s)})


@lru_cache(maxsize=4_096)
def client_address(remote: str | None) -> str:
    """The address a client is counted by: an IPv4 address or an IPv6 /64 network."""
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
