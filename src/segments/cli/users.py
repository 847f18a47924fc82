"""`segments users …`: the replica of the users, by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import httpx
import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from segments.cli.operate import UsageError, base_url, problem
from segments.settings import Settings

app = typer.Typer(help="The replica of the users, by hand.", no_args_is_help=True)
_CHUNK_BYTES = 262_144
_TIMEOUT_S = httpx.Timeout(30.0, read=600.0, write=120.0)
_TYPES = {".csv": "text/csv", ".ndjson": "application/x-ndjson", ".jsonl": "application/x-ndjson"}


@app.command("import")
def import_users(
    file: Annotated[Path, typer.Argument(help="NDJSON or CSV (user_id;state), .gz or not")],
    url: Annotated[str | None, typer.Option(help="of the service; none = from settings")] = None,
) -> None:
    """Add or change the users of a file; the service must have dev.enabled.

    Sending a file again changes nothing. The exit status is 1 when a line was refused.
    """
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    base = (url or base_url(Settings())).rstrip("/")
    try:
        response = httpx.post(
            f"{base}/dev/users/import",
            content=_pieces(file),
            headers=_headers(file),
            timeout=_TIMEOUT_S,
        )
    except httpx.HTTPError as error:
        raise UsageError(f"{base}: {error or type(error).__name__}") from error
    if response.status_code == httpx.codes.NOT_FOUND:
        raise UsageError(f"{base} has no developer methods: they need the setting dev.enabled")
    if response.status_code != httpx.codes.OK:
        raise UsageError(problem(response))
    counts = response.json()
    typer.echo(f"{counts['accepted']} users taken, {counts['refused']} lines refused")
    for refused in counts["errors"]:
        typer.echo(orjson.dumps(refused).decode())
    if counts["refused"]:
        raise typer.Exit(1)


def _headers(file: Path) -> dict[str, str]:
    compressed = file.suffix.lower() == ".gz"
    suffix = (Path(file.stem).suffix if compressed else file.suffix).lower()
    if suffix not in _TYPES:
        raise UsageError(f"the file must be named {', '.join(_TYPES)}, or that with .gz")
    return {"Content-Type": _TYPES[suffix]} | ({"Content-Encoding": "gzip"} if compressed else {})


def _pieces(path: Path) -> Iterator[bytes]:
    with (
        path.open("rb") as file,
        Progress(
            TextColumn("import"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as progress,
    ):
        task = progress.add_task("bytes", total=path.stat().st_size)
        while piece := file.read(_CHUNK_BYTES):
            yield piece
            progress.update(task, advance=len(piece))
