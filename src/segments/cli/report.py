"""`segments report`: a month's changes as CSV, fetched over HTTP and counted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segments.cli.operate import UsageError, base_url, problem
from segments.settings import Settings

_TIMEOUT_S = httpx.Timeout(30.0, read=120.0)


def report(
    month: Annotated[str, typer.Argument(help="year and month, such as 2026-11")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="file; none = stdout")
    ] = None,
    segment: Annotated[str | None, typer.Option(help="only this segment")] = None,
    user: Annotated[str | None, typer.Option(help="only this user id")] = None,
    timezone: Annotated[str | None, typer.Option(help="such as Europe/Berlin; none = UTC")] = None,
    url: Annotated[str | None, typer.Option(help="of the service; none = from settings")] = None,
) -> None:
    """Write the report of a month; fails, and leaves no file, unless every row has come."""
    wanted = {"month": month, "segment": segment, "user_id": user, "timezone": timezone}
    request = {name: value for name, value in wanted.items() if value is not None}
    base = (url or base_url(Settings())).rstrip("/")
    try:
        with httpx.Client(timeout=_TIMEOUT_S) as client:
            link = _link(client, base, request)
            rows = _fetch(client, link, output)
    except httpx.HTTPError as error:
        raise UsageError(f"{base}: {error or type(error).__name__}") from error
    if output is not None:
        typer.echo(f"{rows} rows written to {output}")


def _link(client: httpx.Client, base: str, request: dict[str, str]) -> str:
    response = client.post(f"{base}/v1/reports", json=request)
    if response.status_code != httpx.codes.CREATED:
        raise UsageError(problem(response))
    return str(response.json()["url"])


def _fetch(client: httpx.Client, link: str, output: Path | None) -> int:
    with client.stream("GET", link) as response:
        if response.status_code != httpx.codes.OK:
            response.read()
            raise UsageError(problem(response))
        if output is None:
            return _copy(response, sys.stdout.buffer)
        unfinished = output.with_name(f"{output.name}.part")
        try:
            with unfinished.open("wb") as file:
                rows = _copy(response, file)
            unfinished.replace(output)
        finally:
            unfinished.unlink(missing_ok=True)
        return rows


def _copy(response: httpx.Response, target: IO[bytes]) -> int:
    """Copy the rows; UsageError unless they are as many as the answer promised."""
    promised = int(response.headers["Segments-Row-Count"])
    rows = 0
    with Progress(
        TextColumn("report"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task("rows", total=promised)
        for chunk in response.iter_bytes():
            target.write(chunk)
            rows += chunk.count(b"\n")
            progress.update(task, completed=rows)
    target.flush()
    if rows != promised:
        raise UsageError(f"the report is not complete: {rows} of {promised} rows came")
    return rows
