"""One call: its deadline, its attempts, its headers."""

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
AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed."""
REQUEST_WAIT_S = 10
"""Longest wait asked of one request: proxies cut longer ones. The call goes on with another."""
_MARGIN_S = 1.0
"""What a request may take beside the wait that it asks for."""
LEAST_TIMEOUT_S = 0.05
ANSWER_TIMEOUT_S = 15.0
"""For an answer that nothing is waited for."""
_STREAM_TIMEOUT_S = 60.0
"""Longest silence within a stream; the service gives up a client that is silent for 30 s."""
_IMPORT_TIMEOUT_S = 600.0
"""Longest silence after a body of any length: all of it is handed on before the answer."""


@dataclass(frozen=True)
class Retries:
    """How often and when a request is tried again.

    Exponential backoff with full jitter: a random time up to `backoff_s`, then up to twice that,
    and so on up to `backoff_max_s`; never before `Retry-After`.
    """

    attempts: int = 5
    backoff_s: float = 0.1
    backoff_max_s: float = 5.0
    chance: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def pause_s(self, failed: int, retry_after_s: float | None) -> float:
        """How long to wait after so many failed attempts."""
        most_s = min(self.backoff_max_s, self.backoff_s * 2.0 ** (failed - 1))
        return max(self.chance() * most_s, retry_after_s or 0.0)


@dataclass(frozen=True)
class Core:
    """What every call needs to know. `io_timeout_s`: longest silence while data is expected."""

    base_url: str
    token: Token = field(repr=False)
    timeout_s: float
    io_timeout_s: float
    retries: Retries
    session: Positions | None = None

    def call(self, timeout_s: float | None = None, least_s: float = LEAST_TIMEOUT_S) -> Call:
        """A call that begins now. `least_s`: what each request may take, were the time over."""
        return Call(self, self.timeout_s if timeout_s is None else timeout_s, least_s)

    def minimum(self, asked: str | None) -> str | None:
        """The positions a read waits for: those asked for, and those of the session's writes."""
        if self.session is None:
            return asked
        wanted = self.session.copy()
        if asked is not None:
            wanted.note(asked)
        return wanted.minimum()

    def note(self, position: str | None) -> None:
        """A write of this client was decided there."""
        if self.session is not None and position is not None:
            self.session.note(position)


def path(*steps: str) -> str:
    """A path of these steps, whatever characters they have."""
    return "".join(f"/{quote(step, safe='')}" for step in steps)


class Call:
    """The requests of one call share its deadline; each has its own attempts."""

    def __init__(self, core: Core, timeout_s: float, least_s: float = LEAST_TIMEOUT_S) -> None:
        self.core = core
        self._least_s = least_s
        self._deadline_s = core.retries.clock() + timeout_s

    @property
    def left_s(self) -> float:
        """What is left of the time."""
        return self._deadline_s - self.core.retries.clock()

    def wait_s(self) -> int:
        """The wait to ask of a request now, in whole seconds."""
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
        """The reply, once there is one that is no error, after as many attempts as it takes.

        `target`: a path of the service, or a URL. `waits`: the service may wait before it answers.
        `accepted`: statuses beside 2xx that are no error here.
        """
        told = {name: value for name, value in (query or {}).items() if value is not None}
        url = (target if "://" in target else self.core.base_url + target) + (
            f"?{urlencode(told)}" if told else ""
        )
        sent = dict(headers or {})
        if json is not None:
            body = orjson.dumps(json)
            sent["Content-Type"] = "application/json"
        if min_position is not None:
            sent["Segments-Min-Position"] = min_position
        failed = 0
        while True:
            outcome = yield self._request(method, url, sent, body, waits=waits, streamed=streamed)
            error = _error(outcome, self._place(url), accepted)
            if error is None:
                assert isinstance(outcome, Reply)
                return outcome
            failed += 1
            again = (
                outcome.again if isinstance(outcome, TransportFailure) else outcome.status in AGAIN
            )
            pause_s = self.core.retries.pause_s(failed, getattr(error, "retry_after_s", None))
            if not again or failed >= self.core.retries.attempts or pause_s >= self.left_s:
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
        sent = {"User-Agent": f"segments-client/{__version__}", **headers}
        left_s = max(self._least_s, self.left_s)
        read_timeout_s = self.core.io_timeout_s
        if waits:
            wait_s = self.wait_s()
            sent["Prefer"] = f"wait={wait_s}"
            read_timeout_s += wait_s
        if streamed:
            read_timeout_s = _STREAM_TIMEOUT_S
        elif callable(body):
            read_timeout_s = _IMPORT_TIMEOUT_S
        bounded = not streamed and not callable(body)
        # A link may lead to another service: the token is for this one alone.
        if _origin(url) == _origin(self.core.base_url) and (token := self._token()) is not None:
            sent["Authorization"] = f"Bearer {token}"
        return Request(
            method,
            url,
            {name.encode(): value.encode() for name, value in sent.items()},
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
        # The library below would repeat it in its error.
        if not token.isascii() or not token.isprintable() or " " in token or not token:
            raise errors.invalid("the token is empty, or has characters that no token has")
        return token

    @staticmethod
    def _place(url: str) -> str:
        """What to name in an error: a link's query may be a secret."""
        return url.partition("?")[0]


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _error(
    outcome: Reply | TransportFailure, place: str, accepted: frozenset[int]
) -> errors.SegmentsError | None:
    if isinstance(outcome, TransportFailure):
        return errors.UnreachableError(f"no answer from {place}: {outcome.reason}")
    if 200 <= outcome.status < 300 or outcome.status in accepted:
        return None
    if outcome.status < 400:
        return errors.AnswerError(f"{place} answered {outcome.status}, which is not expected")
    return errors.problem(outcome.status, outcome.body, _retry_after_s(outcome))


def _retry_after_s(reply: Reply) -> float | None:
    text = reply.headers.get("retry-after", "")
    # Its other form, a date, would need two clocks that agree.
    return float(text) if text.isdecimal() and len(text) < 9 else None


def freshness(reply: Reply) -> Freshness:
    """How fresh an answer says it is."""
    staleness = reply.headers.get("segments-staleness-ms", "")
    return Freshness(
        reply.headers.get("segments-position"),
        int(staleness) if staleness.isdecimal() else None,
        reply.headers.get("segments-complete-until"),
    )


def document(reply: Reply) -> dict[str, Any]:
    """The JSON object of an answer, with how fresh it is. AnswerError when it is none."""
    try:
        told = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        raise errors.AnswerError("the answer is not JSON; is this the service?") from None
    if not isinstance(told, dict):
        raise errors.AnswerError("the answer is not a JSON object; is this the service?")
    return freshness(reply)._asdict() | told


def model(kind: type[M], told: Any) -> M:
    """Part of an answer as a model. AnswerError when it is not what it should be."""
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise errors.AnswerError(f"not understood: {where}: {first['msg']}") from None


def parsed(kind: type[M], reply: Reply) -> M:
    """An answer as a model."""
    return model(kind, document(reply))
