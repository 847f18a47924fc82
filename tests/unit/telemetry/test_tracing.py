"""Trace context: which headers are accepted, dropped and propagated."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as api

from segments.kafka.clients import Record
from segments.state.machine.config import Config, LogRecord
from segments.state.machine.digest import MemoryState
from segments.state.machine.shard import Shard
from segments.streams import router, shards
from segments.telemetry import tracing

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"


def test_a_context_goes_on_as_it_came() -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("other", b"x"),
        ("traceparent", PARENT.encode()),
        ("tracestate", STATE.encode()),
    ]
    trace = tracing.of_headers(headers)
    assert trace == {"traceparent": PARENT, "tracestate": STATE}
    assert tracing.to_headers(trace) == headers[1:]


def test_tracestate_may_come_in_several_lines() -> None:
    assert tracing.validated([PARENT], STATE.split(",")) == tracing.validated([PARENT], [STATE])


def test_a_later_version_is_carried_on_in_the_known_form() -> None:
    later = f"cc-{PARENT[3:]}-what-the-future-will-be-like"
    assert tracing.validated([later]) == {"traceparent": PARENT}


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [PARENT, PARENT],
        [""],
        ["00"],
        [PARENT.upper()],
        [PARENT[:-1]],
        [PARENT + "-00"],
        ["ff" + PARENT[2:]],
        ["00-" + "0" * 32 + PARENT[35:]],
        [PARENT[:36] + "0" * 16 + "-01"],
        [PARENT + "\r\nevil: 1"],
        ["cc-" + PARENT[3:] + "-" + "x" * 600],
    ],
)
def test_a_malformed_parent_is_dropped(parents: list[str]) -> None:
    assert tracing.validated(parents, [STATE]) is None


@pytest.mark.parametrize(
    "states",
    [["no pair"], ["é=1"], ["a=" + "x" * 512], [STATE] * 33, [f"k{n}=1" for n in range(40)]],
)
def test_a_malformed_state_is_dropped(states: list[str]) -> None:
    trace = tracing.validated([PARENT], states)
    assert trace in ({"traceparent": PARENT}, None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["traceparent", "tracestate", "Traceparent", "x"]),
            st.none() | st.binary(max_size=80) | st.sampled_from([PARENT.encode(), STATE.encode()]),
        ),
        max_size=5,
    )
)
def test_headers_never_fail(headers: list[tuple[str, bytes | None]]) -> None:
    """Propagated headers are bounded, ASCII, and accepted unchanged by the next process."""
    trace = tracing.of_headers(headers)
    if trace is not None:
        written = tracing.to_headers(trace)
        assert sum(len(value) for _, value in written) <= 55 + 512
        assert tracing.of_headers([*written]) == trace


def test_what_a_task_produces_belongs_to_its_trace() -> None:
    trace = tracing.validated([PARENT], [STATE])
    assert trace is not None

    def inside() -> list[tuple[str, bytes]] | None:
        tracing.enter(trace)
        return tracing.current_headers()

    assert contextvars.copy_context().run(inside) == tracing.to_headers(trace)
    assert tracing.current_headers() is None
    tracing.enter(None)
    assert tracing.current_headers() is None


def test_nobody_hears_of_spans_without_an_sdk() -> None:
    assert not tracing.is_reported()


class Recorded(api.Tracer):
    """Remembers the spans of an SDK: name, kind, and trace id of the parent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, api.SpanKind, str]] = []

    def start_span(self, *args: Any, **options: Any) -> api.Span:
        raise AssertionError("spans are made current")

    @contextlib.contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, context: Any = None, kind: Any = None, **_: Any
    ) -> Iterator[api.Span]:
        parent = api.get_current_span(context)
        self.spans.append((name, kind, f"{parent.get_span_context().trace_id:032x}"))
        yield parent


def test_records_of_a_trace_are_reported_to_an_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = Recorded()
    monkeypatch.setattr(tracing, "_TRACER", sdk)
    monkeypatch.setattr(tracing, "is_reported", lambda: True)
    machine: Any = Shard(Config(0, 1), MemoryState())
    trace = tracing.validated([PARENT])
    command: dict[str, Any] = {"id": "c", "segment": "a", "description": None, "auto": None}
    for offset, value in enumerate((command | {"trace": trace}, command)):
        assert shards._applied(machine, LogRecord("create", value, offset, 1))
    for headers in ([("traceparent", PARENT.encode())], [("traceparent", b"no")], []):
        with router._span(Record("t", 0, 0, 0, None, b"", headers)):
            pass
    kind, trace_id = api.SpanKind.CONSUMER, PARENT[3:35]
    assert sdk.spans == [("apply create", kind, trace_id), ("route", kind, trace_id)]
