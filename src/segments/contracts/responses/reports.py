"""Response bodies of reports: links and delivery jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segments.contracts.names import SegmentName
from segments.contracts.responses.common import (
    EXAMPLE_TIME,
    CanonicalId,
    Count,
    Instant,
    Next,
    ResponseBody,
    example,
)

_JOB = {
    "job_id": "5f0c1a52-7c5e-4f0e-9d0c-0a3d0e9f7c11",
    "state": "done",
    "destination": "archive",
    "month": "2026-11",
    "timezone": None,
    "segment": None,
    "user_id": None,
    "operations": None,
    "header": True,
    "created_at": EXAMPLE_TIME,
    "started_at": EXAMPLE_TIME,
    "finished_at": "2026-11-24T22:17:01.204Z",
    "attempts": 1,
    "complete_until": EXAMPLE_TIME,
    "name": "2026-11_header_d2ab6a0f_until-20261124T221700.966Z.csv",
    "rows_total": 459,
    "rows_written": 459,
    "bytes_written": 35811,
    "url": "https://files.example/reports/2026-11_header_d2ab6a0f_until-20261124T221700.966Z.csv",
    "url_expires_at": None,
    "error": None,
}


class ReportLink(ResponseBody):
    """A link to a report, which is generated when the link is opened."""

    model_config = example({"url": "http://127.0.0.1:8080/v1/reports/2026-11.csv?header=true"})

    url: Annotated[str, Field(json_schema_extra={"format": "uri"})]


class JobError(ResponseBody):
    """Why a job, or its last attempt, failed."""

    code: str
    detail: str


class ReportJob(ResponseBody):
    """Delivery of a report to a destination. `error` of a running job: of its last attempt."""

    model_config = example(_JOB)

    job_id: str
    state: Literal["queued", "running", "done", "failed"]
    destination: str
    month: str
    timezone: str | None
    segment: SegmentName | None
    user_id: CanonicalId | None
    operations: Literal["changes", "all"] | None
    header: bool
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    attempts: Count
    complete_until: Annotated[
        Instant | None, Field(description="the report has every row up to here; null until known")
    ]
    name: Annotated[str | None, Field(description="name of the file")]
    rows_total: Count | None
    rows_written: Count
    bytes_written: Count
    url: Annotated[str | None, Field(description="location of the report once the job is done")]
    url_expires_at: Instant | None
    error: JobError | None


class ReportJobPage(ResponseBody):
    """Jobs, newest first."""

    model_config = example({"items": [_JOB], "next": None})

    items: list[ReportJob]
    next: Next
