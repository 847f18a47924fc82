"""Calls about monthly reports: their links, their rows, and jobs that store them elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal
from uuid import UUID, uuid4

from segments.client import errors, inputs, writes
from segments.client.call import RESPONSE_TIMEOUT_S, Core, document, freshness, parsed, path
from segments.client.models import ReportJob
from segments.client.sansio import ItemPage, Pause, Read, Reply, Steps, TransportFailure, Walk

ROW_COUNT_HEADER = "segments-row-count"
_POLL_S = 0.5


def report_link(  # noqa: PLR0913 - the parameters of a report
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
    """The link to a month's report (`2026-11`), which is generated when the link is opened."""
    query = request_body(month, timezone, segment, user_id, operations, header)
    return (yield from _link(core, query, timeout_s))


def request_body(
    month: str,
    timezone: str | None,
    segment: str | None,
    user_id: str | UUID | None,
    operations: str | None,
    header: bool,  # noqa: FBT001 - passed on
) -> dict[str, Any]:
    """The body of a request for a report, without parameters that are None."""
    query = {
        "month": month,
        "timezone": timezone,
        "segment": None if segment is None else inputs.segment(segment),
        "user_id": None if user_id is None else inputs.user(user_id),
        "operations": operations,
        "header": header or None,
    }
    return {name: value for name, value in query.items() if value is not None}


def _link(core: Core, query: Mapping[str, Any], timeout_s: float | None) -> Steps[str]:
    # Explicit, because the service may be configured with another default destination.
    body = {**query, "destination": "link"}
    reply = yield from core.call(timeout_s).send("POST", "/v1/reports", json=body)
    url = document(reply).get("url")
    if not isinstance(url, str):
        raise errors.AnswerError("the response has no link; is this the service?")
    return url


def put_report(  # noqa: PLR0913 - the parameters of a report
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
    """Start a job that stores a month's report at a destination configured in the service.

    `destination`: its name. `report_job` returns the progress of the job.
    """
    query = request_body(month, timezone, segment, user_id, operations, header)
    reply = yield from core.call(timeout_s).send(
        "POST",
        "/v1/reports",
        json={**query, "destination": destination},
        headers={writes.KEY: idempotency_key or str(uuid4())},
        min_position=core.minimum(None),
        waits=True,
    )
    return parsed(ReportJob, reply)


def report_job(core: Core, job_id: str, *, timeout_s: float = 0.0) -> Steps[ReportJob]:
    """The state of a job; waits up to `timeout_s` for its end."""
    call = core.call(max(timeout_s, RESPONSE_TIMEOUT_S))
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
    """Cancel a job unless it has ended, and return its state."""
    target = path("v1", "reports", "jobs", job_id)
    return parsed(ReportJob, (yield from core.call(timeout_s).send("DELETE", target)))


def report(  # noqa: PLR0913 - the parameters of a report
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
    """The rows of a month's report, `user;segment;operation;datetime`, in chunks of any size.

    IncompleteError unless the number of rows is the one that the service announced. `timeout_s`
    limits the time to the first row.
    """
    query = request_body(month, timezone, segment, user_id, operations, header)
    return Download(core, query, timeout_s)


class Download(Walk[bytes]):
    """Chunks of a report. `rows`: received so far; `rows_total`: announced, 0 until then."""

    def __init__(self, core: Core, query: Mapping[str, Any], timeout_s: float | None) -> None:
        self.rows = 0
        self.rows_total = 0
        super().__init__(self._download(core, query, timeout_s))

    def _download(
        self, core: Core, query: Mapping[str, Any], timeout_s: float | None
    ) -> Steps[None]:
        url = yield from _link(core, query, timeout_s)
        position = core.minimum(None)
        reply = yield from core.call(timeout_s).send(
            "GET", url, min_position=position, waits=True, streamed=True
        )
        fresh = freshness(reply)
        self.rows_total = _row_count(reply)
        # An empty page, so that a report without rows has its freshness too.
        yield ItemPage([], fresh)
        # The header line is not counted as a row.
        self.rows = -1 if query.get("header") else 0
        while True:
            chunk = yield Read()
            if isinstance(chunk, TransportFailure):
                raise errors.IncompleteError(
                    f"the report was interrupted after {self.rows} of {self.rows_total} rows: "
                    f"{chunk.reason}"
                )
            if not chunk:
                break
            self.rows += chunk.count(b"\n")
            yield ItemPage([chunk], fresh)
        if self.rows != self.rows_total:
            raise errors.IncompleteError(
                f"the report is incomplete: received {self.rows} of {self.rows_total} rows"
            )


def _row_count(reply: Reply) -> int:
    text = reply.headers.get(ROW_COUNT_HEADER, "")
    if not text.isdecimal():
        raise errors.AnswerError(f"the report has no valid {ROW_COUNT_HEADER} header")
    return int(text)


@contextmanager
def atomic_file(target: Path) -> Iterator[IO[bytes]]:
    """Write a file atomically: a temporary file beside it is renamed at the end, or removed."""
    unfinished = target.with_name(f"{target.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
