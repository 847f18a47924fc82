"""One call: deadline, retries and headers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import orjson
from pydantic import ValidationError

from segments import __version__
from segments.client import errors
from segments.client.models import Model
from segments.client.positions import Positions
from segments.client.sansio import (
    Effect,
    Freshness,
    Pause,
    Reply,
    Request,
    RequestBody,
    TransportFailure,
)

M = TypeVar("M", bound=Model)
Token = str | Callable[[], str] | None
RETRYABLE = frozenset({429, 502, 503, 504})
"""Statuses after which a retry may succeed."""
REQUEST_WAIT_S = 10
"""Longest wait requested from the service, since proxies cut longer ones; the call then repeats."""
_MARGIN_S = 1.0
"""Time for a request in addition to the wait it requests."""
LEAST_TIMEOUT_S = 0.05
RESPONSE_TIMEOUT_S = 15.0
"""Timeout of a response that involves no wait."""
_STREAM_TIMEOUT_S = 60.0
"""Longest silence within a stream; the service drops a stalled client after 30 s."""
_IMPORT_TIMEOUT_S = 600.0
"""Longest silence after a streamed body, all of which is processed before the response."""


@dataclass(frozen=True)
class Retries:
    """Retry policy: exponential backoff with full jitter.

    The pause is random, up to `backoff_s`, then up to twice that and so on up to `backoff_max_s`;
    never shorter than `Retry-After`.
    """

    attempts: int = 5
    backoff_s: float = 0.1
    backoff_max_s: float = 5.0
    chance: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def pause_s(self, failed: int, retry_after_s: float | None) -> float:
        """Pause after a number of failed attempts."""
        backoff_s = min(self.backoff_max_s, self.backoff_s * 2.0 ** (failed - 1))
        return max(self.chance() * backoff_s, retry_after_s or 0.0)


@dataclass(frozen=True)
class Core:
    """Configuration of all calls. `io_timeout_s`: longest silence while data is expected."""

    base_url: str
    token: Token = field(repr=False)
    timeout_s: float
    io_timeout_s: float
    retries: Retries
    session: Positions | None = None

    def call(self, timeout_s: float | None = None, least_s: float = LEAST_TIMEOUT_S) -> Call:
        """Start a call. `least_s`: minimum time of each request, even after the deadline."""
        return Call(self, self.timeout_s if timeout_s is None else timeout_s, least_s)

    def minimum(self, requested: str | None) -> str | None:
        """Positions a read waits for: the requested ones and those of the session's writes."""
        if self.session is None:
            return requested
        positions = self.session.copy()
        if requested is not None:
            positions.note(requested)
        return positions.minimum()

    def note(self, position: str | None) -> None:
        """Record the position at which a write of the session was decided."""
        if self.session is not None and position is not None:
            self.session.note(position)


def path(*steps: str) -> str:
    """Join path segments, percent-encoding each."""
    return "".join(f"/{quote(step, safe='')}" for step in steps)


class Call:
    """Requests that share a deadline; each has its own retries."""

    def __init__(self, core: Core, timeout_s: float, least_s: float = LEAST_TIMEOUT_S) -> None:
        self.core = core
        self._least_s = least_s
        self._deadline_s = core.retries.clock() + timeout_s

    @property
    def left_s(self) -> float:
        """Time left until the deadline."""
        return self._deadline_s - self.core.retries.clock()

    def wait_s(self) -> int:
        """Wait to request from the service now, in whole seconds."""
        return max(0, min(REQUEST_WAIT_S, int(self.left_s - _MARGIN_S)))

    def send(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        target: str,
        *,
        query: Mapping[str, str | None] | None = None,
        json: Any = None,
        body: RequestBody = None,
        headers: Mapping[str, str] | None = None,
        min_position: str | None = None,
        waits: bool = False,
        streamed: bool = False,
        accepted: frozenset[int] = frozenset(),
    ) -> Generator[Effect, Any, Reply]:
        """Send a request with retries and return the reply; SegmentsError on failure.

        `target`: a path of the service, or a URL. `waits`: the service may wait before responding.
        `accepted`: statuses other than 2xx that are not errors.
        """
        params = {name: value for name, value in (query or {}).items() if value is not None}
        url = (target if "://" in target else self.core.base_url + target) + (
            f"?{urlencode(params)}" if params else ""
        )
        all_headers = dict(headers or {})
        if json is not None:
            body = orjson.dumps(json)
            all_headers["Content-Type"] = "application/json"
        if min_position is not None:
            all_headers["Segments-Min-Position"] = min_position
        failed = 0
        while True:
            outcome = yield self._request(
                method, url, all_headers, body, waits=waits, streamed=streamed
            )
            error = _error(outcome, self._without_query(url), accepted)
            if error is None:
                assert isinstance(outcome, Reply)
                return outcome
            failed += 1
            retryable = (
                outcome.retryable
                if isinstance(outcome, TransportFailure)
                else outcome.status in RETRYABLE
            )
            pause_s = self.core.retries.pause_s(failed, getattr(error, "retry_after_s", None))
            if not retryable or failed >= self.core.retries.attempts or pause_s >= self.left_s:
                raise error
            yield Pause(pause_s)

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: RequestBody,
        *,
        waits: bool,
        streamed: bool,
    ) -> Request:
        all_headers = {"User-Agent": f"segments-client/{__version__}", **headers}
        left_s = max(self._least_s, self.left_s)
        read_timeout_s = self.core.io_timeout_s
        if waits:
            wait_s = self.wait_s()
            all_headers["Prefer"] = f"wait={wait_s}"
            read_timeout_s += wait_s
        if streamed:
            read_timeout_s = _STREAM_TIMEOUT_S
        elif callable(body):
            read_timeout_s = _IMPORT_TIMEOUT_S
        bounded = not streamed and not callable(body)
        # A link may point to another service, which must not receive the token.
        if _origin(url) == _origin(self.core.base_url) and (token := self._token()) is not None:
            all_headers["Authorization"] = f"Bearer {token}"
        return Request(
            method,
            url,
            {name.encode(): value.encode() for name, value in all_headers.items()},
            body,
            left_s if bounded else None,
            min(read_timeout_s, left_s) if bounded else read_timeout_s,
            streamed,
        )

    def _token(self) -> str | None:
        token = self.core.token() if callable(self.core.token) else self.core.token
        if token is None:
            return None
        token = token.strip()
        # httpx would include the token in its error.
        if not token.isascii() or not token.isprintable() or " " in token or not token:
            raise errors.invalid("the token is empty or has invalid characters")
        return token

    @staticmethod
    def _without_query(url: str) -> str:
        """URL for error messages, without the query, which may be secret."""
        return url.partition("?")[0]


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _error(
    outcome: Reply | TransportFailure, url: str, accepted: frozenset[int]
) -> errors.SegmentsError | None:
    if isinstance(outcome, TransportFailure):
        return errors.UnreachableError(f"no response from {url}: {outcome.reason}")
    if 200 <= outcome.status < 300 or outcome.status in accepted:
        return None
    if outcome.status < 400:
        return errors.AnswerError(f"unexpected status {outcome.status} from {url}")
    return errors.problem(outcome.status, outcome.body, _retry_after_s(outcome))


def _retry_after_s(reply: Reply) -> float | None:
    text = reply.headers.get("retry-after", "")
    # The date form is ignored: it would need synchronised clocks.
    return float(text) if text.isdecimal() and len(text) < 9 else None


def freshness(reply: Reply) -> Freshness:
    """Freshness of a response, from its headers."""
    staleness = reply.headers.get("segments-staleness-ms", "")
    return Freshness(
        reply.headers.get("segments-position"),
        int(staleness) if staleness.isdecimal() else None,
        reply.headers.get("segments-complete-until"),
    )


def document(reply: Reply) -> dict[str, Any]:
    """JSON object of a response, with its freshness. AnswerError for anything else."""
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        raise errors.AnswerError("the response is not JSON; is this the service?") from None
    if not isinstance(body, dict):
        raise errors.AnswerError("the response is not a JSON object; is this the service?")
    return freshness(reply)._asdict() | body


def model(model_type: type[M], value: Any) -> M:
    """Validate part of a response. AnswerError if it does not match the model."""
    try:
        return model_type.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise errors.AnswerError(f"unexpected response: {where}: {first['msg']}") from None


def parsed(model_type: type[M], reply: Reply) -> M:
    """Validate a response."""
    return model(model_type, document(reply))
