"""Single reads and paginated lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from segments.client import call, errors
from segments.client.call import Core
from segments.client.models import Model
from segments.client.sansio import ItemPage, Reply, Steps, Walk

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
    """Send a GET; the reply reflects `min_position` and the writes of the session."""
    position = core.minimum(min_position)
    return core.call(timeout_s).send(
        "GET", target, query=query, min_position=position, waits=waits or position is not None
    )


def pages(
    core: Core,
    item_type: type[M],
    target: str,
    *,
    query: Mapping[str, str | None] | None = None,
    min_position: str | None = None,
    timeout_s: float | None = None,
    page_size: int = PAGE,
) -> Walk[M]:
    """All items of a paginated list; `timeout_s` is for each page."""

    def steps() -> Steps[None]:
        cursor: str | None = None
        while True:
            page_query = {**(query or {}), "limit": str(page_size), "cursor": cursor}
            reply = yield from read(
                core, target, query=page_query, min_position=min_position, timeout_s=timeout_s
            )
            found = page(item_type, reply)
            yield found
            cursor = found.next
            if cursor is None:
                return

    return Walk(steps())


def page(item_type: type[M], reply: Reply) -> ItemPage:
    """Validate a page of a list. AnswerError if its items are missing or do not match the model."""
    body = call.document(reply)
    items = body.get("items")
    if not isinstance(items, list):
        raise errors.AnswerError("the response has no items; is this the service?")
    freshness = call.freshness(reply)
    shared = freshness._asdict()
    parsed = [call.model(item_type, shared | i if isinstance(i, dict) else i) for i in items]
    return ItemPage(parsed, freshness, body.get("next"))
