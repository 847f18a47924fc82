"""Calls about segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from segments.client import call, errors, inputs, reads, writes
from segments.client.call import Core, path
from segments.client.inputs import Rule
from segments.client.models import Member, Preview, Result, Segment
from segments.client.sansio import ItemPage, Read, Steps, TransportFailure, Walk

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
    """Create a segment. ConflictError `segment_exists` if the name is in use.

    With a rule (`auto`), its state is `assigning` until all selected users have been added.
    """
    name = inputs.segment(segment)
    body = {"segment": name} | _body(description, auto)
    outcome = yield from writes.perform(
        core, "POST", "/v1/segments", body, key=idempotency_key, timeout_s=timeout_s
    )
    return (yield from _segment_after(core, name, outcome))


def update_segment(
    core: Core,
    segment: str,
    *,
    description: str | None = None,
    auto: Rule | Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[Segment]:
    """Change the description or the rule of a segment; None leaves it unchanged.

    RejectedError `percent_shrinks` if the percentage or count is lower than before; ConflictError
    `assigning` for a rule while an assignment is in progress.
    """
    name = inputs.segment(segment)
    outcome = yield from writes.perform(
        core,
        "PATCH",
        path("v1", "segments", name),
        _body(description, auto),
        key=idempotency_key,
        timeout_s=timeout_s,
    )
    return (yield from _segment_after(core, name, outcome))


def _body(description: str | None, auto: Rule | Mapping[str, Any] | None) -> dict[str, Any]:
    body: dict[str, Any] = {} if description is None else {"description": description}
    return body if auto is None else body | {"auto": inputs.rule(auto)}


def _segment_after(core: Core, name: str, outcome: writes.DecidedWrite) -> Steps[Segment]:
    """The segment after a write; fetched if the response had only the command's result."""
    if outcome.has_resource:
        return call.model(Segment, outcome.body)
    try:
        reply = yield from outcome.call.send(
            "GET",
            path("v1", "segments", name),
            min_position=core.minimum(outcome.body["position"]),
            waits=True,
        )
    except errors.SegmentsError as error:
        error.command_id = error.command_id or outcome.body["command_id"]
        raise
    return call.parsed(Segment, reply)


def delete_segment(
    core: Core,
    segment: str,
    *,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[Result]:
    """Delete a segment and all its memberships. NotFoundError if it does not exist."""
    target = path("v1", "segments", inputs.segment(segment))
    outcome = yield from writes.perform(
        core, "DELETE", target, None, key=idempotency_key, timeout_s=timeout_s
    )
    return writes.result(outcome.body)


def preview_segment(
    core: Core, auto: Rule | Mapping[str, Any], *, timeout_s: float | None = None
) -> Steps[Preview]:
    """Count the users eligible under a rule and how many it would select; changes nothing."""
    body = {"auto": inputs.rule(auto)}
    outcome = yield from writes.perform(
        core, "POST", "/v1/segments/preview", body, key=None, timeout_s=timeout_s
    )
    counts = {} if outcome.has_resource else outcome.body.get("preview") or {}
    return call.model(Preview, outcome.body | counts)


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
    """All existing segments, by name; `timeout_s` is for each page."""
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
    """The members of a segment, by user id; streamed, so that memory use is constant.

    IncompleteError if the stream is interrupted: the members yielded so far are correct, but not
    all. `timeout_s` limits the time to the first line.
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
        received, rest, count = 0, b"", None
        while True:
            chunk = yield Read()
            if isinstance(chunk, TransportFailure):
                raise errors.IncompleteError(
                    f"interrupted after {received} members: {chunk.reason}"
                )
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LINE_MAX_BYTES:
                raise errors.AnswerError("a line is too long; is this the service?")
            items, count = _members(lines, count)
            received += len(items)
            yield ItemPage(items, freshness)
        if rest or count != received:
            total = "an unknown number" if count is None else count
            raise errors.IncompleteError(f"received {received} of {total} members")

    return Walk(steps())


def _members(lines: list[bytes], count: int | None) -> tuple[list[Member], int | None]:
    """Parse lines into members and the final count; None until it is received."""
    items = []
    for line in lines:
        if count is not None:
            raise errors.AnswerError("unexpected data after the final count")
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise errors.AnswerError("a line is not JSON; is this the service?") from None
        if isinstance(value, dict) and isinstance(value.get("count"), int):
            count = value["count"]
        else:
            items.append(call.model(Member, value))
    return items, count
