"""`segments report --destination`: begins a job of the service and shows how far it is."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from segments.cli import output
from segments.cli.service import Service
from segments.cli.settings import UsageError
from segments.client.models import ReportJob

_STEP_S = 0.5


def put(service: Service, destination: str, month: str, asked: dict[str, Any]) -> None:
    """Print where the report is, once it is there. UsageError when it does not get there."""
    job = service.client.put_report(month, destination, **asked)
    try:
        job = _followed(service, job)
    except KeyboardInterrupt:
        output.note(f"the job goes on: /v1/reports/jobs/{job.job_id}")
        raise
    if service.json:
        output.document(job.document())
    if job.state == "failed":
        why = "for no known reason" if job.error is None else job.error.detail
        raise UsageError(f"the report is not at {destination} (job {job.job_id}): {why}")
    if not service.json:
        output.text(f"{job.rows_total} rows are at {job.url}")


def _followed(service: Service, job: ReportJob) -> ReportJob:
    """The job once it has ended; meanwhile a bar with its rows, and what holds it up."""
    told = None
    with nullcontext() if service.json else output.progress("report") as bar:
        task = None if bar is None else bar.add_task("rows", total=None)
        while not job.ended:
            job = service.client.report_job(job.job_id, timeout_s=_STEP_S)
            if bar is not None and task is not None:
                bar.update(task, completed=job.rows_written, total=job.rows_total)
            if job.error is not None and job.state == "running" and told != job.error.detail:
                told = job.error.detail
                output.note(f"try {job.attempts}: {told}")
    return job
