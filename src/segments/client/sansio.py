"""Sans-I/O calls: generators that yield effects and receive their outcomes.

| effect     | outcome            | what the driver does                                    |
|------------|--------------------|---------------------------------------------------------|
| `Request`  | `Reply` or failure | sends it; reads the body, except of a stream with a 2xx |
| `Read`     | bytes or failure   | reads the next chunk of that stream; empty at its end   |
| `Pause`    | None               | waits                                                   |
| `ItemPage` | None               | yields its items to the caller                          |

The two drivers, synchronous and asynchronous, only perform effects. Requests, retries, waits and
checks are written once, in the modules of the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
RequestBody = bytes | Callable[[], Iterator[bytes]] | None
"""Bytes, or a function that returns a fresh iterator of chunks for every attempt."""


@dataclass(frozen=True)
class Request:
    """A request to send. Header values are bytes: they may be any text.

    `timeout_s`: for the whole exchange, None for a stream; `read_timeout_s`: for each chunk.
    """

    method: str
    url: str
    headers: Mapping[bytes, bytes]
    body: RequestBody
    timeout_s: float | None
    read_timeout_s: float
    streamed: bool = False


@dataclass(frozen=True)
class Reply:
    """A response. `headers` by lower-case name; `body` is empty for a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class TransportFailure:
    """No complete response was received. `retryable`: whether a retry can succeed."""

    reason: str
    retryable: bool = True


@dataclass(frozen=True)
class Read:
    """Read the next chunk of the open stream."""


@dataclass(frozen=True)
class Pause:
    """Wait before the next step."""

    seconds: float


class Freshness(NamedTuple):
    """How fresh a response is: see `models.ResponseModel`."""

    position: str | None = None
    staleness_ms: int | None = None
    complete_until: str | None = None


@dataclass(frozen=True)
class ItemPage:
    """Items of a list and how fresh they are. `next`: the cursor of the next page."""

    items: Sequence[Any]
    freshness: Freshness
    next: str | None = None


Effect = Request | Read | Pause | ItemPage
Steps = Generator[Effect, Any, T]


class Run(Generic[T]):
    """A running generator: `effect` is the next one to perform, or None at the end."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.effect: Effect | None = None
        self._value: list[T] = []
        self.advance(None)

    def advance(self, outcome: Any) -> None:
        """Send the outcome of the effect and proceed to the next one."""
        try:
            self.effect = self._steps.send(outcome)
        except StopIteration as end:
            self.effect = None
            self._value.append(end.value)

    def close(self) -> None:
        """Abandon the generator."""
        self._steps.close()

    @property
    def value(self) -> T:
        """The result, once `effect` is None."""
        [value] = self._value
        return value


@dataclass
class Walk(Generic[T]):
    """Steps that yield pages of items of type `T`."""

    steps: Steps[None]
