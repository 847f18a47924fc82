"""`segments result`: what became of a command."""

from __future__ import annotations

from typing import Annotated

import typer

from segments.cli import output
from segments.cli.service import service_of


def result(
    context: typer.Context,
    command_id: Annotated[str, typer.Argument(help="as the write was answered")],
    wait_s: Annotated[float, typer.Option(min=0, max=3600, help="wait for it so long")] = 0.0,
) -> None:
    """Say what became of a command; status 1 when it was refused, or is not decided yet."""
    service = service_of(context)
    found = service.client.result(command_id, timeout_s=wait_s)
    if service.json:
        output.document(found.document())
    else:
        output.text(f"{found.status} at {output.when(found.at)}, position {found.position}")
        for changed in found.changes:
            output.text(f"{changed.operation} {changed.segment}")
        if found.error is not None:
            named = f": {', '.join(found.error.segments)}" if found.error.segments else ""
            output.text(f"{found.error.code}: {found.error.detail}{named}")
    if found.status == "rejected":
        raise typer.Exit(1)
