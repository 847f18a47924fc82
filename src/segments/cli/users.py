"""`segments users …`: the replica of the users, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segments.cli import output
from segments.cli.service import Service, asks_service
from segments.cli.settings import UsageError
from segments.client import Imported, InvalidError, NotFoundError

app = typer.Typer(help="The replica of the users, by hand.", no_args_is_help=True)


@app.command("import")
@asks_service
def import_users(
    service: Service,
    file: Annotated[Path, typer.Argument(help="NDJSON or CSV (user_id;state), .gz or not")],
) -> None:
    """Add or change the users of a file; the service must have dev.enabled.

    Sending a file again changes nothing. The exit status is 1 when a line was refused.
    """
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    counts = _sent(service, file)
    if service.json:
        output.document(counts.document())
    else:
        output.text(f"{counts.accepted} users taken, {counts.refused} lines refused")
        for refused in counts.errors:
            output.text(f"line {refused.line}: {refused.field}: {refused.detail}")
    if counts.refused:
        raise typer.Exit(1)


def _sent(service: Service, file: Path) -> Imported:
    with output.progress("import", size=True) as bar:
        task = bar.add_task("bytes", total=file.stat().st_size)
        try:
            return service.client.import_users(file, progress=lambda n: bar.advance(task, n))
        except NotFoundError:
            raise UsageError(
                f"{service.url} has no developer methods: they need the setting dev.enabled"
            ) from None
        except InvalidError as error:
            raise UsageError(str(error)) from None
