"""Commands that start processes."""

from __future__ import annotations

import importlib
from enum import StrEnum
from typing import Annotated

import typer

from segments.kafka import topics
from segments.settings import Settings

_MODULES = {
    "router": "segments.streams.router",
    "users": "segments.streams.users",
    "shards": "segments.streams.shards",
    "history": "segments.streams.history",
    "http": "segments.http.app",
}
Application = StrEnum("Application", {name.upper(): name for name in _MODULES})  # type: ignore[misc]


def run(application: Annotated[Application, typer.Argument(help="which one")]) -> None:
    """Run one application in the foreground until Ctrl-C or SIGTERM."""
    settings = Settings()
    topics.check(settings)
    importlib.import_module(_MODULES[application.value]).run(settings)


def kafka() -> None:
    """Run the embedded Kafka alone, on the port of kafka.bootstrap_servers."""
    from segments.kafka import embedded as broker  # noqa: PLC0415  # the name is this command's

    broker.run(Settings())


def up(
    shards: Annotated[int, typer.Option(min=1, max=64, help="processes of shards")] = 1,
    embedded: Annotated[
        bool | None, typer.Option(help="start the embedded Kafka too (setting kafka.embedded)")
    ] = None,
) -> None:
    """Run all applications here, restart any that die; stop on Ctrl-C or SIGTERM."""
    from segments.local import up as local  # noqa: PLC0415  # only `up` and `demo` need it

    settings = Settings()
    if embedded is not None:
        section = settings.kafka.model_copy(update={"embedded": embedded})
        settings = settings.model_copy(update={"kafka": section})
    local.up(settings, shards)


def demo(
    once: Annotated[bool, typer.Option("--once", help="exit after the tour")] = False,  # noqa: FBT002
) -> None:
    """Run everything with an embedded Kafka and 1,000 example users, and give a tour."""
    from segments.local import demo as show  # noqa: PLC0415  # only this command needs it

    raise typer.Exit(show.run(Settings(), once=once))
