"""The calls without input and output: generators that say what is to be done, and take what came.

A generator yields an effect and is sent its outcome:

| effect    | outcome             | what the driver does                                        |
|-----------|---------------------|-------------------------------------------------------------|
| `Request` | `Reply` or failure   | sends it; reads the body, unless it is a stream that is 2xx |
| `Read`    | bytes or failure    | the next piece of that stream; empty at its end             |
| `Pause`   | None                | waits                                                       |
| `Page`    | None                | yields its items to the caller                              |

The two drivers, blocking and asynchronous, know nothing else: what is asked for, retried, waited
for and checked stands here and in the modules of the calls, once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
RequestBody = bytes | Callable[[], Iterator[bytes]] | None
"""Whole, or made anew piece by piece for every attempt."""


@dataclass(frozen=True)
class Request:
    """What to send. Header values are bytes: they may be any text.

    `timeout_s`: for the whole exchange, None for a stream; `read_timeout_s`: for each piece.
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
    """What came back. `headers` by lower-case name; `body` is empty for a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class TransportFailure:
    """No answer, or none to its end. `again`: whether another attempt makes sense."""

    reason: str
    again: bool = True


@dataclass(frozen=True)
class Read:
    """The next piece of the stream that was opened last."""


@dataclass(frozen=True)
class Pause:
    """Nothing to be done for so long."""

    seconds: float


class Freshness(NamedTuple):
    """How fresh a response is: see `models.ResponseModel`."""

    position: str | None = None
    staleness_ms: int | None = None
    complete_until: str | None = None


@dataclass(frozen=True)
class Page:
    """Items of a list and how fresh they are. `next`: the cursor of the next page."""

    items: Sequence[Any]
    freshness: Freshness
    next: str | None = None


Effect = Request | Read | Pause | Page
Steps = Generator[Effect, Any, T]


class Run(Generic[T]):
    """A generator on its way, as drivers see it: an effect to be done, or the end with a value."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.effect: Effect | None = None
        self._value: list[T] = []
        self.advance(None)

    def advance(self, outcome: Any) -> None:
        """Hand over what came of the effect; then `effect` is the next one, or None at the end."""
        try:
            self.effect = self._steps.send(outcome)
        except StopIteration as end:
            self.effect = None
            self._value.append(end.value)

    def close(self) -> None:
        """Nobody goes on with it."""
        self._steps.close()

    @property
    def value(self) -> T:
        """What it came to."""
        [value] = self._value
        return value


@dataclass
class Walk(Generic[T]):
    """Steps that yield pages of items of type `T`."""

    steps: Steps[None]
