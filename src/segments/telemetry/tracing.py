"""Trace context (W3C Trace Context) on its way from a command to its result and history rows.

A context is kept as its two header lines. OpenTelemetry checks it and puts it into its one form;
what is malformed or too long is dropped, as if it had not been sent. Nothing here makes up a trace:
what came without one goes without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
FIELDS = (TRACEPARENT, TRACESTATE)

Trace = dict[str, str]
"""`traceparent` and, where there is one, `tracestate`."""

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = api.get_tracer("segments")
_NOTHING = contexts.Context()
_STATES_MAX = 32
_LINE_MAX_CHARACTERS = 512


def checked(parents: Sequence[str], states: Sequence[str] = ()) -> Trace | None:
    """The context of these header lines; None unless exactly one `traceparent` is well-formed.

    A `tracestate` that is malformed or longer than 512 characters is left out.
    """
    # Some versions of the check take time by the square of the length of what is malformed.
    if len(parents) != 1 or len(parents[0]) > _LINE_MAX_CHARACTERS or len(states) > _STATES_MAX:
        return None
    if sum(map(len, states)) > _LINE_MAX_CHARACTERS:
        states = ()
    lines = {TRACEPARENT: list(parents), TRACESTATE: list(states)}
    return _written(_PROPAGATOR.extract(lines, _NOTHING))


def _written(context: contexts.Context | None) -> Trace | None:
    lines: Trace = {}
    _PROPAGATOR.inject(lines, context)
    return lines or None


def of_headers(headers: Iterable[tuple[str, bytes | None]]) -> Trace | None:
    """The context in the headers of a Kafka record."""
    found: dict[str, list[str]] = {TRACEPARENT: [], TRACESTATE: []}
    for name, raw in headers:
        if (lines := found.get(name.lower())) is not None:
            # What is not ASCII is malformed, which the check finds.
            lines.append((raw or b"").decode("ascii", "replace"))
    return checked(found[TRACEPARENT], found[TRACESTATE]) if found[TRACEPARENT] else None


def to_headers(trace: Trace) -> list[tuple[str, bytes]]:
    """The headers of a Kafka record with this context."""
    return [(name, trace[name].encode()) for name in FIELDS if name in trace]


def enter(trace: Trace | None) -> None:
    """Let what this task does from here on belong to a trace."""
    if trace is not None:
        contexts.attach(_PROPAGATOR.extract(trace, contexts.get_current()))


def current_headers() -> list[tuple[str, bytes]] | None:
    """Headers for a Kafka record that this task produces; None outside any trace."""
    if api.get_current_span() is api.INVALID_SPAN:
        return None
    trace = _written(None)
    return None if trace is None else to_headers(trace)


def is_reported() -> bool:
    """Whether anybody hears of spans: an OpenTelemetry SDK is configured in this process."""
    return not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


@contextmanager
def span(name: str, trace: Trace) -> Iterator[None]:
    """Report the block as a span of the trace."""
    parent = _PROPAGATOR.extract(trace, _NOTHING)
    with _TRACER.start_as_current_span(name, parent, kind=api.SpanKind.CONSUMER):
        yield
