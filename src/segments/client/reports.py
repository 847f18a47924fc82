"""Reports: a link, or the rows themselves, counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from segments.client import calling, errors, rules
from segments.client.calling import Core
from segments.client.exchange import Emit, Failure, Freshness, Read, Reply, Steps, Walk

ROW_COUNT = "segments-row-count"


def report_link(  # noqa: PLR0913 - what can be asked of a report
    core: Core,
    month: str,
    *,
    timezone: str | None = None,
    segment: str | None = None,
    user_id: str | UUID | None = None,
    operations: Literal["changes", "all"] | None = None,
    header: bool = False,
    timeout_s: float | None = None,
) -> Steps[str]:
    """The link to the report of a month (`2026-11`); it is made when the link is opened."""
    wanted = asked(month, timezone, segment, user_id, operations, header)
    return (yield from _link(core, wanted, timeout_s))


def asked(
    month: str,
    timezone: str | None,
    segment: str | None,
    user_id: str | UUID | None,
    operations: str | None,
    header: bool,  # noqa: FBT001 - handed on
) -> dict[str, Any]:
    """The body of the request for a report."""
    wanted = {
        "month": month,
        "timezone": timezone,
        "segment": None if segment is None else rules.segment(segment),
        "user_id": None if user_id is None else rules.user(user_id),
        "operations": operations,
        "header": header or None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _link(core: Core, wanted: Mapping[str, Any], timeout_s: float | None) -> Steps[str]:
    reply = yield from core.call(timeout_s).send("POST", "/v1/reports", json=wanted)
    url = calling.document(reply).get("url")
    if not isinstance(url, str):
        raise errors.AnswerError("the answer has no link; is this the service?")
    return url


def report(  # noqa: PLR0913 - what can be asked of a report
    core: Core,
    month: str,
    *,
    timezone: str | None = None,
    segment: str | None = None,
    user_id: str | UUID | None = None,
    operations: Literal["changes", "all"] | None = None,
    header: bool = False,
    timeout_s: float | None = None,
) -> Download:
    """The rows of a month's report, `user;segment;operation;datetime`, in pieces of any size.

    IncompleteError unless as many rows come as the service promised. `timeout_s` is for the time to
    the first row.
    """
    wanted = asked(month, timezone, segment, user_id, operations, header)
    return Download(core, wanted, timeout_s)


class Download(Walk[bytes]):
    """The pieces of a report. `rows` of `promised` have come so far; `promised` is 0 at first."""

    def __init__(self, core: Core, wanted: Mapping[str, Any], timeout_s: float | None) -> None:
        self.rows = 0
        self.promised = 0
        super().__init__(self._download(core, wanted, timeout_s), Freshness())

    def _download(
        self, core: Core, wanted: Mapping[str, Any], timeout_s: float | None
    ) -> Steps[None]:
        url = yield from _link(core, wanted, timeout_s)
        position = core.minimum(None)
        reply = yield from core.call(timeout_s).send(
            "GET", url, min_position=position, waits=True, streamed=True
        )
        vars(self.freshness).update(vars(calling.freshness(reply)))
        self.promised = _promised(reply)
        # The line with the names of the columns is none of the rows.
        self.rows = -1 if wanted.get("header") else 0
        while True:
            piece = yield Read()
            if isinstance(piece, Failure):
                raise errors.IncompleteError(
                    f"the report broke off: {self.rows} of {self.promised} rows came "
                    f"({piece.reason})"
                )
            if not piece:
                break
            self.rows += piece.count(b"\n")
            yield Emit([piece])
        if self.rows != self.promised:
            raise errors.IncompleteError(
                f"the report is not complete: {self.rows} of {self.promised} rows came"
            )


def _promised(reply: Reply) -> int:
    text = reply.headers.get(ROW_COUNT, "")
    if not text.isdecimal():
        raise errors.AnswerError("the report does not say how many rows it has")
    return int(text)
