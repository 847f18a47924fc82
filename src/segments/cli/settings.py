"""`segments settings`: print the settings, with secrets redacted."""

from __future__ import annotations

from typing import Annotated

import typer

from segments.cli import output
from segments.settings import Settings, redaction
from segments.settings.environment import without_secrets
from segments.specs import settings_table


def settings(
    tables: Annotated[bool, typer.Option("--tables", help="print a Markdown reference")] = False,  # noqa: FBT002
    json: output.JsonOption = False,  # noqa: FBT002 - an option
) -> None:
    """Print the effective settings as environment variables, with secrets redacted."""
    if tables:
        typer.echo(settings_table.tables(), nl=False)
        return
    shown = redacted(Settings())
    if json:
        output.document(shown)
        return
    for name, value in shown.items():
        typer.echo(f"{name}={value}")


def redacted(tree: Settings) -> dict[str, str]:
    """Settings by environment variable, without secrets."""
    options = redaction.hidden_options(tree.kafka.options)
    kafka = tree.kafka.model_copy(update={"options": options})
    shown = without_secrets(tree.model_copy(update={"kafka": kafka}))
    return {name: redaction.without_userinfo(value) for name, value in shown.items()}
