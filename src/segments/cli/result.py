"""`segments result`: the result of a command."""

from __future__ import annotations

from typing import Annotated

import typer

from segments.cli import output
from segments.cli.service import service_of


def result(
    context: typer.Context,
    command_id: Annotated[str, typer.Argument(help="id from the response to the write")],
    wait_s: Annotated[
        float, typer.Option(min=0, max=3600, help="longest wait for the result, in seconds")
    ] = 0.0,
) -> None:
    """Print the result of a command; exit status 1 if it was rejected or is not decided yet."""
    service = service_of(context)
    found = service.client.result(command_id, timeout_s=wait_s)
    if service.json:
        output.document(found.document())
    else:
        output.text(f"{found.status} at {output.when(found.at)}, position {found.position}")
        for changed in found.changes:
            output.text(f"{changed.operation} {changed.segment}")
        if found.error is not None:
            segments = f": {', '.join(found.error.segments)}" if found.error.segments else ""
            output.text(f"{found.error.code}: {found.error.detail}{segments}")
    if found.status == "rejected":
        raise typer.Exit(1)
