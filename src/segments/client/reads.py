"""Reads that are one request, and lists that are many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from segments.client import call, errors
from segments.client.call import Core
from segments.client.models import Model
from segments.client.sansio import Effect, Emit, Freshness, Reply, Steps, Walk

M = TypeVar("M", bound=Model)
PAGE = 1_000


def read(
    core: Core,
    target: str,
    *,
    query: Mapping[str, str | None] | None = None,
    min_position: str | None = None,
    timeout_s: float | None = None,
    waits: bool = False,
) -> Steps[Reply]:
    """The reply to a GET, as fresh as asked for and as this session's writes."""
    position = core.minimum(min_position)
    return core.call(timeout_s).send(
        "GET", target, query=query, min_position=position, waits=waits or position is not None
    )


def pages(
    core: Core,
    kind: type[M],
    target: str,
    *,
    query: Mapping[str, str | None] | None = None,
    min_position: str | None = None,
    timeout_s: float | None = None,
    page_size: int = PAGE,
) -> Walk[M]:
    """Every item of a list, page after page; `timeout_s` is for each page."""
    seen = Freshness()

    def steps() -> Steps[None]:
        cursor: str | None = None
        while True:
            asked = {**(query or {}), "limit": str(page_size), "cursor": cursor}
            reply = yield from read(
                core, target, query=asked, min_position=min_position, timeout_s=timeout_s
            )
            cursor = yield from emit(kind, reply, seen)
            if cursor is None:
                return

    return Walk(steps(), seen)


def emit(kind: type[M], reply: Reply, seen: Freshness) -> Steps[str | None]:
    """Hand over the items of a page; the cursor of the next one."""
    told = call.document(reply)
    items = told.get("items")
    if not isinstance(items, list):
        raise errors.AnswerError("the answer has no items; is this the service?")
    vars(seen).update(vars(call.freshness(reply)))
    fresh: dict[str, Any] = vars(seen)
    yield _emitted([_item(kind, item, fresh) for item in items])
    return told.get("next")


def _item(kind: type[M], item: Any, fresh: dict[str, Any]) -> M:
    return call.model(kind, fresh | item if isinstance(item, dict) else item)


def _emitted(items: list[Any]) -> Effect:
    return Emit(items)
