"""Calls about segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from segments.client import call, errors, inputs, reads, writes
from segments.client.call import Core, path
from segments.client.inputs import Rule
from segments.client.models import Member, Preview, Result, Segment
from segments.client.sansio import Page, Read, Steps, TransportFailure, Walk

_LINE_MAX_BYTES = 65_536


def create_segment(
    core: Core,
    segment: str,
    *,
    description: str | None = None,
    auto: Rule | Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[Segment]:
    """Make a segment. ConflictError `segment_exists` when the name is in use.

    With a rule (`auto`) the segment is `assigning` until everybody who is chosen has it.
    """
    name = inputs.segment(segment)
    body = {"segment": name} | _body(description, auto)
    decided = yield from writes.perform(
        core, "POST", "/v1/segments", body, key=idempotency_key, timeout_s=timeout_s
    )
    return (yield from _shown(core, name, decided))


def update_segment(
    core: Core,
    segment: str,
    *,
    description: str | None = None,
    auto: Rule | Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[Segment]:
    """Change the description or the rule of a segment; what is None stays as it is.

    RejectedError `percent_shrinks` for less than before; ConflictError `assigning` for a rule while
    another is being carried out.
    """
    name = inputs.segment(segment)
    decided = yield from writes.perform(
        core,
        "PATCH",
        path("v1", "segments", name),
        _body(description, auto),
        key=idempotency_key,
        timeout_s=timeout_s,
    )
    return (yield from _shown(core, name, decided))


def _body(description: str | None, auto: Rule | Mapping[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = {} if description is None else {"description": description}
    return told if auto is None else told | {"auto": inputs.rule(auto)}


def _shown(core: Core, name: str, decided: writes.Decided) -> Steps[Segment]:
    """The segment after a write; asked for where the answer was the result alone."""
    if decided.whole:
        return call.model(Segment, decided.body)
    try:
        reply = yield from decided.call.send(
            "GET",
            path("v1", "segments", name),
            min_position=core.minimum(decided.body["position"]),
            waits=True,
        )
    except errors.SegmentsError as error:
        error.command_id = error.command_id or decided.body["command_id"]
        raise
    return call.parsed(Segment, reply)


def delete_segment(
    core: Core,
    segment: str,
    *,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[Result]:
    """End a segment and every membership in it. NotFoundError when there is none."""
    target = path("v1", "segments", inputs.segment(segment))
    decided = yield from writes.perform(
        core, "DELETE", target, None, key=idempotency_key, timeout_s=timeout_s
    )
    return writes.result(decided.body)


def preview_segment(
    core: Core, auto: Rule | Mapping[str, Any], *, timeout_s: float | None = None
) -> Steps[Preview]:
    """How many users a rule lets through now, and how many it would choose; changes nothing."""
    body = {"auto": inputs.rule(auto)}
    decided = yield from writes.perform(
        core, "POST", "/v1/segments/preview", body, key=None, timeout_s=timeout_s
    )
    counts = {} if decided.whole else decided.body.get("preview") or {}
    return call.model(Preview, decided.body | counts)


def segment(
    core: Core, segment: str, *, min_position: str | None = None, timeout_s: float | None = None
) -> Steps[Segment]:
    """A segment as it is now, with its size. NotFoundError `segment_unknown`."""
    target = path("v1", "segments", inputs.segment(segment))
    reply = yield from reads.read(core, target, min_position=min_position, timeout_s=timeout_s)
    return call.parsed(Segment, reply)


def segments(
    core: Core,
    *,
    page_size: int = reads.PAGE,
    min_position: str | None = None,
    timeout_s: float | None = None,
) -> Walk[Segment]:
    """Every segment in use, by name; `timeout_s` is for each page."""
    return reads.pages(
        core,
        Segment,
        "/v1/segments",
        min_position=min_position,
        timeout_s=timeout_s,
        page_size=page_size,
    )


def members(
    core: Core,
    segment: str,
    *,
    min_position: str | None = None,
    timeout_s: float | None = None,
) -> Walk[Member]:
    """Everybody who has a segment, by user id, streamed: any number in little memory.

    IncompleteError when the list breaks off: what came before is right, and not all. `timeout_s` is
    for the time to its first line.
    """
    target = path("v1", "segments", inputs.segment(segment), "users")

    def steps() -> Steps[None]:
        position = core.minimum(min_position)
        reply = yield from core.call(timeout_s).send(
            "GET",
            target,
            headers={"Accept": "application/x-ndjson"},
            min_position=position,
            waits=position is not None,
            streamed=True,
        )
        freshness = call.freshness(reply)
        given, rest, count = 0, b"", None
        while True:
            piece = yield Read()
            if isinstance(piece, TransportFailure):
                raise errors.IncompleteError(f"broken off after {given} members: {piece.reason}")
            if not piece:
                break
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > _LINE_MAX_BYTES:
                raise errors.AnswerError("a line without an end; is this the service?")
            items, count = _members(lines, count)
            given += len(items)
            yield Page(items, freshness)
        if rest or count != given:
            told = "without its count" if count is None else f"with a count of {count}"
            raise errors.IncompleteError(f"{given} members came, {told}")

    return Walk(steps())


def _members(lines: list[bytes], count: int | None) -> tuple[list[Member], int | None]:
    """The members of some lines, and the count that closes the list, once it has come."""
    items = []
    for line in lines:
        if count is not None:
            raise errors.AnswerError("more after the count of the members")
        try:
            told = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise errors.AnswerError("a line that is not JSON; is this the service?") from None
        if isinstance(told, dict) and isinstance(told.get("count"), int):
            count = told["count"]
        else:
            items.append(call.model(Member, told))
    return items, count
