"""`segments settings`, and what the commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from segments import settings_doc
from segments.cli import output
from segments.environment import HIDDEN, without_secrets
from segments.settings import Settings

_SECRET_OPTION = re.compile(r"password|secret|token|jaas|oauth|pem|\.key", re.IGNORECASE)
_USERINFO = re.compile(r"//[^/@\s]+@")


class UsageError(RuntimeError):
    """The command cannot do what it was asked; the message says why."""


def settings(
    tables: Annotated[bool, typer.Option("--tables", help="describe all, as Markdown")] = False,  # noqa: FBT002
    json: output.JsonOption = False,  # noqa: FBT002 - an option
) -> None:
    """Print every setting in force, as environment variables, with secrets hidden."""
    if tables:
        typer.echo(settings_doc.tables(), nl=False)
        return
    shown = redacted(Settings())
    if json:
        output.document(shown)
        return
    for name, value in shown.items():
        typer.echo(f"{name}={value}")


def redacted(tree: Settings) -> dict[str, str]:
    """Settings by environment variable, fit to be shown."""
    options = {
        key: HIDDEN if _SECRET_OPTION.search(key) else value
        for key, value in tree.kafka.options.items()
    }
    kafka = tree.kafka.model_copy(update={"options": options})
    shown = without_secrets(tree.model_copy(update={"kafka": kafka}))
    return {name: _USERINFO.sub(f"//{HIDDEN}@", value) for name, value in shown.items()}


def base_url(tree: Settings) -> str:
    """Where the HTTP sidecar of this deployment is reached from this machine."""
    host = "127.0.0.1" if tree.http.host in {"0.0.0.0", ""} else tree.http.host  # noqa: S104
    return (tree.http.public_url or f"http://{host}:{tree.http.port}").rstrip("/")
