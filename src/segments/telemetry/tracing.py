"""Propagates trace context (W3C Trace Context) from a command to its result and history rows.

A context is stored as its two header values. OpenTelemetry validates and normalizes it; a malformed
or oversized one is dropped as if it had not been sent. No trace is ever started here: a command
without a context has none.
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
"""`traceparent` and, if present, `tracestate`."""

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = api.get_tracer("segments")
_NOTHING = contexts.Context()
_STATES_MAX = 32
_LINE_MAX_CHARACTERS = 512


def validated(parents: Sequence[str], states: Sequence[str] = ()) -> Trace | None:
    """The context of these header values; None unless there is one, well-formed `traceparent`.

    A `tracestate` that is malformed or longer than 512 characters is dropped.
    """
    # Some versions of the parser need quadratic time for malformed values: lengths are bounded.
    if len(parents) != 1 or len(parents[0]) > _LINE_MAX_CHARACTERS or len(states) > _STATES_MAX:
        return None
    if sum(map(len, states)) > _LINE_MAX_CHARACTERS:
        states = ()
    lines = {TRACEPARENT: list(parents), TRACESTATE: list(states)}
    return _inject(_PROPAGATOR.extract(lines, _NOTHING))


def _inject(context: contexts.Context | None) -> Trace | None:
    lines: Trace = {}
    _PROPAGATOR.inject(lines, context)
    return lines or None


def of_headers(headers: Iterable[tuple[str, bytes | None]]) -> Trace | None:
    """The context in the headers of a Kafka record; None without a valid one."""
    found: dict[str, list[str]] = {TRACEPARENT: [], TRACESTATE: []}
    for name, raw in headers:
        if (lines := found.get(name.lower())) is not None:
            # Other than ASCII is malformed; the replacement character fails validation.
            lines.append((raw or b"").decode("ascii", "replace"))
    return validated(found[TRACEPARENT], found[TRACESTATE]) if found[TRACEPARENT] else None


def to_headers(trace: Trace) -> list[tuple[str, bytes]]:
    """The context as headers of a Kafka record."""
    return [(name, trace[name].encode()) for name in FIELDS if name in trace]


def enter(trace: Trace | None) -> None:
    """Make a trace the current context of this task."""
    if trace is not None:
        contexts.attach(_PROPAGATOR.extract(trace, contexts.get_current()))


def current_headers() -> list[tuple[str, bytes]] | None:
    """Headers for a Kafka record that this task produces; None outside a trace."""
    if api.get_current_span() is api.INVALID_SPAN:
        return None
    trace = _inject(None)
    return None if trace is None else to_headers(trace)


def is_reported() -> bool:
    """Whether spans are exported: an OpenTelemetry SDK is configured in this process."""
    return not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


@contextmanager
def span(name: str, trace: Trace) -> Iterator[None]:
    """Record the block as a span of the trace."""
    parent = _PROPAGATOR.extract(trace, _NOTHING)
    with _TRACER.start_as_current_span(name, parent, kind=api.SpanKind.CONSUMER):
        yield
