"""`segments openapi`: print the OpenAPI document."""

from __future__ import annotations

from typing import Annotated

import typer

from segments.settings import Settings
from segments.specs import json_schemas


def openapi(
    dev: Annotated[
        bool | None,
        typer.Option(
            "--dev/--no-dev", help="include the paths below /dev; default: setting dev.enabled"
        ),
    ] = None,
) -> None:
    """Print the OpenAPI 3.1 document of the HTTP interface of this deployment."""
    # The sidecar is slow to import, and no other command needs it.
    from segments.http.app import interface  # noqa: PLC0415

    settings = Settings()
    if dev is not None:
        enabled = settings.dev.model_copy(update={"enabled": dev})
        settings = settings.model_copy(update={"dev": enabled})
    typer.echo(json_schemas.text(interface(settings)), nl=False)
