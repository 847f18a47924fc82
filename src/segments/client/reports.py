"""Reports: a link, or the rows themselves, counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal
from uuid import UUID, uuid4

from segments.client import errors, inputs, writes
from segments.client.call import ANSWER_TIMEOUT_S, Core, document, freshness, parsed, path
from segments.client.models import ReportJob
from segments.client.sansio import Page, Pause, Read, Reply, Steps, TransportFailure, Walk

ROW_COUNT = "segments-row-count"
_POLL_S = 0.5


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
        "segment": None if segment is None else inputs.segment(segment),
        "user_id": None if user_id is None else inputs.user(user_id),
        "operations": operations,
        "header": header or None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _link(core: Core, wanted: Mapping[str, Any], timeout_s: float | None) -> Steps[str]:
    # In words: the service may have another destination for those who do not say.
    asked_for = {**wanted, "destination": "link"}
    reply = yield from core.call(timeout_s).send("POST", "/v1/reports", json=asked_for)
    url = document(reply).get("url")
    if not isinstance(url, str):
        raise errors.AnswerError("the answer has no link; is this the service?")
    return url


def put_report(  # noqa: PLR0913 - what can be asked of a report
    core: Core,
    month: str,
    destination: str,
    *,
    timezone: str | None = None,
    segment: str | None = None,
    user_id: str | UUID | None = None,
    operations: Literal["changes", "all"] | None = None,
    header: bool = False,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
) -> Steps[ReportJob]:
    """Begin a job that puts the report of a month at a destination of the service, by its name.

    What becomes of it: `report_job`.
    """
    wanted = asked(month, timezone, segment, user_id, operations, header)
    reply = yield from core.call(timeout_s).send(
        "POST",
        "/v1/reports",
        json={**wanted, "destination": destination},
        headers={writes.KEY: idempotency_key or str(uuid4())},
        min_position=core.minimum(None),
        waits=True,
    )
    return parsed(ReportJob, reply)


def report_job(core: Core, job_id: str, *, timeout_s: float = 0.0) -> Steps[ReportJob]:
    """How far a job is, or where it ended, which is waited for as long as `timeout_s`."""
    call = core.call(max(timeout_s, ANSWER_TIMEOUT_S))
    until_s = call.left_s - timeout_s
    while True:
        reply = yield from call.send("GET", path("v1", "reports", "jobs", job_id))
        job = parsed(ReportJob, reply)
        pause_s = min(_POLL_S, call.left_s - until_s)
        if job.ended or pause_s <= 0:
            return job
        yield Pause(pause_s)


def cancel_report_job(
    core: Core, job_id: str, *, timeout_s: float | None = None
) -> Steps[ReportJob]:
    """End a job that has not ended; as it is then."""
    target = path("v1", "reports", "jobs", job_id)
    return parsed(ReportJob, (yield from core.call(timeout_s).send("DELETE", target)))


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
        super().__init__(self._download(core, wanted, timeout_s))

    def _download(
        self, core: Core, wanted: Mapping[str, Any], timeout_s: float | None
    ) -> Steps[None]:
        url = yield from _link(core, wanted, timeout_s)
        position = core.minimum(None)
        reply = yield from core.call(timeout_s).send(
            "GET", url, min_position=position, waits=True, streamed=True
        )
        fresh = freshness(reply)
        self.promised = _promised(reply)
        # Also a report without rows says how fresh it is.
        yield Page([], fresh)
        # The line with the names of the columns is none of the rows.
        self.rows = -1 if wanted.get("header") else 0
        while True:
            piece = yield Read()
            if isinstance(piece, TransportFailure):
                raise errors.IncompleteError(
                    f"the report broke off: {self.rows} of {self.promised} rows came "
                    f"({piece.reason})"
                )
            if not piece:
                break
            self.rows += piece.count(b"\n")
            yield Page([piece], fresh)
        if self.rows != self.promised:
            raise errors.IncompleteError(
                f"the report is not complete: {self.rows} of {self.promised} rows came"
            )


def _promised(reply: Reply) -> int:
    text = reply.headers.get(ROW_COUNT, "")
    if not text.isdecimal():
        raise errors.AnswerError("the report does not say how many rows it has")
    return int(text)


@contextmanager
def whole_file(target: Path) -> Iterator[IO[bytes]]:
    """Written beside the target and moved there at the end; an exception leaves nothing behind."""
    unfinished = target.with_name(f"{target.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
