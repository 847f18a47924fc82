"""Calls about users: their memberships and history, and changes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from uuid import UUID

from segments.client import call, inputs, reads, writes
from segments.client.call import Core, path
from segments.client.inputs import AddInput, When
from segments.client.models import HistoryRow, MembershipDetail, Result, UserSegments
from segments.client.sansio import Steps, Walk

QUERY_USERS = 10_000
"""Maximum number of users per query request."""


def user_segments(
    core: Core,
    user_id: str | UUID,
    *,
    at: When | None = None,
    min_position: str | None = None,
    timeout_s: float | None = None,
) -> Steps[UserSegments]:
    """The active segments of a user, now or at a past time.

    NotFoundError `user_unknown`, `user_deleted`; StaleError if the requested freshness is not
    reached in time.
    """
    query = {"at": None if at is None else inputs.instant(at, "at")}
    reply = yield from reads.read(
        core,
        path("v1", "users", inputs.user(user_id), "segments"),
        query=query,
        min_position=min_position,
        timeout_s=timeout_s,
        waits=at is not None,
    )
    return call.parsed(UserSegments, reply)


def membership(
    core: Core,
    user_id: str | UUID,
    segment: str,
    *,
    min_position: str | None = None,
    timeout_s: float | None = None,
) -> Steps[MembershipDetail]:
    """One membership: its start, end and cause. NotFoundError `not_a_member`."""
    target = path("v1", "users", inputs.user(user_id), "segments", inputs.segment(segment))
    reply = yield from reads.read(core, target, min_position=min_position, timeout_s=timeout_s)
    return call.parsed(MembershipDetail, reply)


def change(
    core: Core,
    user_id: str | UUID,
    *,
    add: Iterable[AddInput] = (),
    remove: Iterable[str] = (),
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[Result]:
    """Add a user to segments and remove it from others, all or nothing.

    RejectedError if it is rejected; nothing is changed then.
    """
    outcome = yield from writes.perform(
        core,
        "PATCH",
        path("v1", "users", inputs.user(user_id), "segments"),
        {"add": [inputs.addition(each) for each in add], "remove": list(remove)},
        key=idempotency_key,
        timeout_s=timeout_s,
        names_segment=False,
    )
    return writes.result(outcome.body)


def history(
    core: Core,
    user_id: str | UUID,
    *,
    since: When | None = None,
    until: When | None = None,
    page_size: int = reads.PAGE,
    min_position: str | None = None,
    timeout_s: float | None = None,
) -> Walk[HistoryRow]:
    """Membership changes of a user, newest first, since <= at < until; `timeout_s` is per page."""
    query = {
        "from": None if since is None else inputs.instant(since, "since"),
        "to": None if until is None else inputs.instant(until, "until"),
    }
    return reads.pages(
        core,
        HistoryRow,
        path("v1", "users", inputs.user(user_id), "history"),
        query=query,
        min_position=min_position,
        timeout_s=timeout_s,
        page_size=page_size,
    )


def query(
    core: Core,
    user_ids: Iterable[str | UUID],
    *,
    segments: Iterable[str] | None = None,
    min_position: str | None = None,
    timeout_s: float | None = None,
) -> Walk[UserSegments]:
    """The segments of any number of users, in the given order; requested 10,000 users at a time.

    `segments`: return only these. `error` is set for unknown and deleted users. `timeout_s` is for
    each request.
    """
    names = None if segments is None else list(segments)

    def steps() -> Steps[None]:
        for chunk in _chunks(user_ids):
            body = {"user_ids": chunk} | ({} if names is None else {"segments": names})
            position = core.minimum(min_position)
            reply = yield from core.call(timeout_s).send(
                "POST",
                "/v1/memberships/query",
                json=body,
                min_position=position,
                waits=position is not None,
            )
            yield reads.page(UserSegments, reply)

    return Walk(steps())


def _chunks(user_ids: Iterable[str | UUID]) -> Iterator[list[str]]:
    rest = iter(user_ids)
    while chunk := [inputs.user(each) for each in islice(rest, QUERY_USERS)]:
        yield chunk
