"""`segments topics …`: create, check and describe the topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segments.cli import output
from segments.kafka import topics
from segments.settings import Settings
from segments.specs import asyncapi as asyncapi_document
from segments.specs import json_schemas, topics_table

app = typer.Typer(help="The topics of this deployment.", no_args_is_help=True)


@app.command()
def apply(json: output.JsonOption = False) -> None:  # noqa: FBT002 - an option
    """Create missing topics; fails if an existing one differs from topics.yaml."""
    settings = Settings()
    created = topics.apply(settings)
    if not json:
        for name in created:
            typer.echo(f"created {name}")
    _report(settings, created, json=json)


@app.command()
def check(json: output.JsonOption = False) -> None:  # noqa: FBT002 - an option
    """Check all topics against topics.yaml; changes nothing."""
    settings = Settings()
    topics.check(settings)
    _report(settings, [], json=json)


def _report(settings: Settings, created: list[str], *, json: bool) -> None:
    names = [topic.on_cluster(settings) for topic in topics.load()]
    if json:
        output.document({"created": created, "topics": names})
    else:
        typer.echo(f"{len(names)} topics match topics.yaml")


@app.command()
def table() -> None:
    """Print topics.yaml as a Markdown table."""
    typer.echo(topics_table.table(), nl=False)


@app.command()
def diagram() -> None:
    """Print a diagram of the writers and readers of each topic."""
    typer.echo(topics_table.diagram(), nl=False)


@app.command()
def asyncapi() -> None:
    """Print the AsyncAPI 3.0 document of this deployment's topics."""
    typer.echo(json_schemas.text(asyncapi_document.document(Settings())), nl=False)


@app.command()
def schemas(
    folder: Annotated[
        Path, typer.Option("--output", "-o", help="folder, with a subfolder for each topic")
    ],
) -> None:
    """Write the JSON Schemas (2020-12) of every topic's messages, values and headers."""
    written = json_schemas.write(folder)
    typer.echo(f"{len(written)} schemas written to {folder}")
