"""HTTP client of the user service.

fetch(user id) ─▶ FetchedAccount        200 with the state; 404 or 410 = deleted
               └▶ FetchError            retried later: timeouts, 429, 5xx, redirects, the wrong
                                        id, any other violation of the contract
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx
import orjson

from segments.contracts.names import canonical_user_id
from segments.settings import UserServiceSettings
from segments.telemetry import metrics

_VERSION_MAX = 2**63 - 1


class FetchedAccount(NamedTuple):
    """The account of a user. `version`, if the service has one, grows with each change."""

    state: str
    version: int | None


class FetchError(Exception):
    """No usable response. `retry_after_s`: the delay requested by the service, if any."""

    def __init__(self, outcome: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome = outcome
        self.retry_after_s = retry_after_s


class UserServiceClient:
    """Keeps connections alive between requests. Belongs to one event loop."""

    def __init__(self, settings: UserServiceSettings) -> None:
        assert settings.base_url is not None
        self._settings = settings
        self._url = settings.base_url.rstrip("/") + "/" + settings.path.lstrip("/")
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        self._timeout_s = settings.timeout_ms / 1000
        self._requests: set[asyncio.Task[FetchedAccount]] = set()
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=self._timeout_s,
            follow_redirects=False,
            # The user service is internal: proxies configured for outgoing traffic do not apply.
            trust_env=False,
            # The caller bounds concurrency. The pool must not: a request that is cancelled while
            # it waits for a connection leaks the slot (httpcore 1.0.9).
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=settings.concurrency
            ),
        )

    async def fetch(self, user_id: str) -> FetchedAccount:
        """Fetch the state of a user's account. FetchError without a usable response."""
        started = time.perf_counter()
        outcome = "error"
        try:
            # Bounds the whole response: the timeout of each read does not stop a slow drip.
            async with asyncio.timeout(self._timeout_s):
                account = await self._request_shielded(user_id)
            outcome = "ok"
            metrics.USER_SERVICE_LAST_SUCCESS.set_to_current_time()
        except FetchError as error:
            outcome = error.outcome
            raise
        except (TimeoutError, httpx.TimeoutException):
            outcome = "timeout"
            raise FetchError(outcome, f"no response within {self._timeout_s} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            outcome = "unreachable"
            raise FetchError(outcome, f"{type(error).__name__}: {error}") from None
        else:
            return account
        finally:
            metrics.USER_SERVICE_SECONDS.labels(outcome).observe(time.perf_counter() - started)

    async def _request_shielded(self, user_id: str) -> FetchedAccount:
        """Send the request in a task of its own that is never cancelled.

        A cancelled request can leak its connection, until the pool is exhausted and no fetch
        succeeds any more. An abandoned one ends by its own timeouts.
        """
        request = asyncio.create_task(self._request(user_id))
        self._requests.add(request)
        request.add_done_callback(self._finish_request)
        return await asyncio.shield(request)

    def _finish_request(self, request: asyncio.Task[FetchedAccount]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # retrieved, so that asyncio does not log it

    async def _request(self, user_id: str) -> FetchedAccount:
        deadline_s = time.monotonic() + self._timeout_s
        async with self._http.stream("GET", self._url.replace("{id}", user_id)) as response:
            status = response.status_code
            if status in (404, 410):
                return FetchedAccount("deleted", None)
            if status != 200:
                raise FetchError(
                    "rate_limited" if status == 429 else f"status_{status // 100}xx",
                    f"status {status}",
                    retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
                )
            body = await self._body(response, deadline_s)
        return self._account(user_id, body)

    async def _body(self, response: httpx.Response, deadline_s: float) -> bytes:
        # Raw bytes: a compressed response, which was not accepted, could expand to any size.
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchError("garbage", "the response is compressed")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._settings.max_body_bytes:
                raise FetchError("too_large", f"more than {self._settings.max_body_bytes} bytes")
            if time.monotonic() > deadline_s:
                raise FetchError("timeout", f"incomplete response after {self._timeout_s} s")
        return bytes(body)

    def _account(self, user_id: str, body: bytes) -> FetchedAccount:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise FetchError("garbage", "the response is not JSON") from None
        if not isinstance(document, dict):
            raise FetchError("garbage", "the response is not a JSON object")
        if _canonical(document.get(self._settings.id_field)) != user_id:
            raise FetchError("wrong_id", "the response is about another user")
        word = document.get(self._settings.state_field)
        state = self._settings.states.get(word) if isinstance(word, str) else None
        if state is None:
            raise FetchError("unknown_state", f"state {str(word)[:40]!r} is not in the settings")
        version = document.get(self._settings.version_field)
        if version is not None and (type(version) is not int or not 0 <= version <= _VERSION_MAX):
            raise FetchError("garbage", "the version is not a non-negative integer")
        return FetchedAccount(state, version)

    async def close(self) -> None:
        """Close the connections once no request is in flight."""
        if self._requests:
            await asyncio.wait(self._requests, timeout=4 * self._timeout_s)
        await self._http.aclose()


def _canonical(value: Any) -> str | None:
    try:
        return canonical_user_id(value)
    except ValueError:
        return None


def _retry_after_s(header: str | None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3): a number or an HTTP date, else None."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    try:
        moment = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
