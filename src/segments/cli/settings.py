"""`segments settings`, and what the commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from segments.cli import output
from segments.settings import Settings, redaction
from segments.settings.environment import without_secrets
from segments.specs import settings_table


class UsageError(RuntimeError):
    """The command cannot do what it was asked; the message says why."""


def settings(
    tables: Annotated[bool, typer.Option("--tables", help="describe all, as Markdown")] = False,  # noqa: FBT002
    json: output.JsonOption = False,  # noqa: FBT002 - an option
) -> None:
    """Print every setting in force, as environment variables, with secrets hidden."""
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
    """Settings by environment variable, fit to be shown."""
    options = redaction.hidden_options(tree.kafka.options)
    kafka = tree.kafka.model_copy(update={"options": options})
    shown = without_secrets(tree.model_copy(update={"kafka": kafka}))
    return {name: redaction.without_userinfo(value) for name, value in shown.items()}


def base_url(tree: Settings) -> str:
    """Where the HTTP sidecar of this deployment is reached from this machine."""
    # Who listens everywhere is reached here.
    host = "127.0.0.1" if tree.http.host in {"0.0.0.0", "::", ""} else tree.http.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return (tree.http.public_url or f"http://{host}:{tree.http.port}").rstrip("/")
