"""`segments report`: a month's changes as CSV, downloaded with a check of the row count."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from segments.cli import output
from segments.cli.completion import segment_names
from segments.cli.service import Service, ServiceCommand, ServiceOptions, options_of, service_of
from segments.cli.usage import UsageError
from segments.client.models import ReportJob

_POLL_S = 0.5
COLUMNS = ("user", "segment", "operation", "datetime")


@dataclass(frozen=True)
class ReportOptions:
    """The options that select and format the rows of a report."""

    segment: Annotated[
        str | None, typer.Option(help="only this segment", autocompletion=segment_names)
    ] = None
    user: Annotated[str | None, typer.Option(help="only this user id")] = None
    timezone: Annotated[str | None, typer.Option(help="such as Europe/Berlin; default UTC")] = None
    operations: Annotated[
        Literal["changes", "all"], typer.Option(help="all: include changes of expiry times")
    ] = "changes"

    def query(self) -> dict[str, Any]:
        """Keyword arguments of the client's methods for reports."""
        return {
            "segment": self.segment,
            "user_id": self.user,
            "timezone": self.timezone,
            "operations": self.operations if self.operations == "all" else None,
        }


class ReportCommand(ServiceCommand):
    """A command of the service with the options of a report."""

    groups = (ReportOptions, ServiceOptions)


def report(
    context: typer.Context,
    month: Annotated[str, typer.Argument(help="year and month, such as 2026-11")],
    target: Annotated[
        Path | None, typer.Option("-o", "--output", help="file; default stdout")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="print only the link")] = False,  # noqa: FBT002
    destination: Annotated[
        str | None,
        typer.Option(help="store it at this destination of the service, and wait for it"),
    ] = None,
) -> None:
    """Write the report of a month; fails without leaving a file if rows are missing.

    With --json, rows are printed as JSON objects, one per line; with -o, --link or --destination,
    the outcome is printed as JSON.
    """
    service = service_of(context)
    query = options_of(context, ReportOptions).query()
    if destination is not None and (link or target is not None):
        raise typer.BadParameter("--destination cannot be combined with --output or --link")
    if destination is not None:
        store(service, destination, month, query)
    elif link:
        url = service.client.report_link(month, **query)
        output.document({"url": url}) if service.json else output.text(url)
    elif target is not None:
        rows = _save(service, target, month, query)
        summary = {"rows": rows, "file": str(target)}
        output.document(summary) if service.json else output.text(
            f"{rows} rows written to {target}"
        )
    elif service.json:
        _print_objects(service, month, query)
    else:
        service.client.save_report(sys.stdout.buffer, month, **query)
        sys.stdout.flush()


def _save(service: Service, target: Path, month: str, query: dict[str, Any]) -> int:
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"cannot write a file at {target}")
    quiet = service.json
    with nullcontext() if quiet else output.progress("report") as bar:
        task = None if bar is None else bar.add_task("rows", total=None)

        def update(rows: int, rows_total: int) -> None:
            if bar is not None and task is not None:
                bar.update(task, completed=rows, total=rows_total)

        return service.client.save_report(target, month, progress=update, **query)


def _print_objects(service: Service, month: str, query: dict[str, Any]) -> None:
    rest = b""
    with service.client.report(month, **query) as chunks:
        for chunk in chunks:
            *rows, rest = (rest + chunk).split(b"\n")
            output.lines(dict(zip(COLUMNS, row.decode().split(";"), strict=True)) for row in rows)


def store(service: Service, destination: str, month: str, query: dict[str, Any]) -> None:
    """Store the report at a destination and print its URL. UsageError if the job fails."""
    job = service.client.put_report(month, destination, **query)
    try:
        job = _wait_for_end(service, job)
    except KeyboardInterrupt:
        output.note(f"the job continues: /v1/reports/jobs/{job.job_id}")
        raise
    if service.json:
        output.document(job.document())
    if job.state == "failed":
        why = "unknown reason" if job.error is None else job.error.detail
        raise UsageError(
            f"the report could not be stored at {destination} (job {job.job_id}): {why}"
        )
    if not service.json:
        output.text(f"{job.rows_total} rows are at {job.url}")


def _wait_for_end(service: Service, job: ReportJob) -> ReportJob:
    """Poll the job until it ends, showing its progress and errors that it retries after."""
    last_error = None
    with nullcontext() if service.json else output.progress("report") as bar:
        task = None if bar is None else bar.add_task("rows", total=None)
        while not job.ended:
            job = service.client.report_job(job.job_id, timeout_s=_POLL_S)
            if bar is not None and task is not None:
                bar.update(task, completed=job.rows_written, total=job.rows_total)
            if job.error is not None and job.state == "running" and last_error != job.error.detail:
                last_error = job.error.detail
                output.note(f"attempt {job.attempts}: {last_error}")
    return job
