"""Client of the user service: one question, one of four kinds of answer.

fetch(user id) ─▶ FetchedAccount               200 with the state, 404 or 410 = deleted
               └▶ FetchError            ask again later: time-outs, 429, 5xx, redirects, the
                                        wrong id, anything that is not the contract
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
    """What the user service says of a user. `version` grows with each change, where it is given."""

    state: str
    version: int | None


class FetchError(Exception):
    """No usable answer. `retry_after_s` is the wait the service asked for, if it did."""

    def __init__(self, outcome: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome = outcome
        self.retry_after_s = retry_after_s


class UserServiceClient:
    """Connections kept over all questions. Belongs to one event loop."""

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
            # The user service is a neighbour: a proxy for the outer world does not lead there.
            trust_env=False,
            # Who asks bounds the requests at the same time. The pool must not: a request that gives
            # up while it waits for its turn takes the turn with it (httpcore 1.0.9).
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=settings.concurrency
            ),
        )

    async def fetch(self, user_id: str) -> FetchedAccount:
        """The state of a user's account. FetchError when there is no usable answer."""
        started = time.perf_counter()
        outcome = "error"
        try:
            # Beside the time-out of each read: an answer that drips byte by byte ends, too.
            async with asyncio.timeout(self._timeout_s):
                account = await self._request_shielded(user_id)
            outcome = "ok"
            metrics.USER_SERVICE_LAST_SUCCESS.set_to_current_time()
        except FetchError as error:
            outcome = error.outcome
            raise
        except (TimeoutError, httpx.TimeoutException):
            outcome = "timeout"
            raise FetchError(outcome, f"no answer within {self._timeout_s} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            outcome = "unreachable"
            raise FetchError(outcome, f"{type(error).__name__}: {error}") from None
        else:
            return account
        finally:
            metrics.USER_SERVICE_SECONDS.labels(outcome).observe(time.perf_counter() - started)

    async def _request_shielded(self, user_id: str) -> FetchedAccount:
        """Ask in a task of its own, which nobody cancels.

        A cancelled request can keep its connection for ever, until the pool has none left and no
        fetch succeeds any more. One that nobody waits for ends by its own time-outs.
        """
        request = asyncio.create_task(self._request(user_id))
        self._requests.add(request)
        request.add_done_callback(self._finish_request)
        return await asyncio.shield(request)

    def _finish_request(self, request: asyncio.Task[FetchedAccount]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # asked for, so that asyncio does not call it lost

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
        # Raw bytes: what was compressed against our wish could unpack to any size.
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchError("garbage", "the answer is compressed")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._settings.max_body_bytes:
                raise FetchError("too_large", f"more than {self._settings.max_body_bytes} bytes")
            if time.monotonic() > deadline_s:
                raise FetchError("timeout", f"no whole answer within {self._timeout_s} s")
        return bytes(body)

    def _account(self, user_id: str, body: bytes) -> FetchedAccount:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise FetchError("garbage", "the answer is not JSON") from None
        if not isinstance(answer, dict):
            raise FetchError("garbage", "the answer is not a JSON object")
        if _canonical(answer.get(self._settings.id_field)) != user_id:
            raise FetchError("wrong_id", "the answer is about another user")
        word = answer.get(self._settings.state_field)
        state = self._settings.states.get(word) if isinstance(word, str) else None
        if state is None:
            raise FetchError("unknown_state", f"state {str(word)[:40]!r} is not in the settings")
        version = answer.get(self._settings.version_field)
        if version is not None and (type(version) is not int or not 0 <= version <= _VERSION_MAX):
            raise FetchError("garbage", "the version is not a whole number")
        return FetchedAccount(state, version)

    async def close(self) -> None:
        """Close the connections, once no request is on its way."""
        if self._requests:
            await asyncio.wait(self._requests, timeout=4 * self._timeout_s)
        await self._http.aclose()


def _canonical(value: Any) -> str | None:
    try:
        return canonical_user_id(value)
    except ValueError:
        return None


def _retry_after_s(header: str | None) -> float | None:
    """Seconds from a Retry-After header: a number or an HTTP date; None when it is neither."""
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
