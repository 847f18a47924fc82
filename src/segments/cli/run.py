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


def run(
    application: Annotated[Application, typer.Argument(help="name of the application")],
) -> None:
    """Run one application in the foreground until Ctrl-C or SIGTERM."""
    settings = Settings()
    topics.check(settings)
    importlib.import_module(_MODULES[application.value]).run(settings)


def kafka() -> None:
    """Run the embedded Kafka alone, on the port of kafka.bootstrap_servers."""
    from segments.kafka import embedded as broker  # noqa: PLC0415  # `kafka` is this function

    broker.run(Settings())


def up(
    shards: Annotated[int, typer.Option(min=1, max=64, help="number of shards processes")] = 1,
    embedded: Annotated[
        bool | None, typer.Option(help="also start the embedded Kafka (setting kafka.embedded)")
    ] = None,
) -> None:
    """Run all applications on this machine and restart any that exit; stop on Ctrl-C or SIGTERM."""
    from segments.local import up as local  # noqa: PLC0415  # only `up` and `demo` need it

    settings = Settings()
    if embedded is not None:
        section = settings.kafka.model_copy(update={"embedded": embedded})
        settings = settings.model_copy(update={"kafka": section})
    local.up(settings, shards)


def demo(
    once: Annotated[bool, typer.Option("--once", help="exit after the tour")] = False,  # noqa: FBT002
) -> None:
    """Run everything with an embedded Kafka and 1,000 example users, and print a tour."""
    from segments.local import demo as show  # noqa: PLC0415  # only this command needs it

    raise typer.Exit(show.run(Settings(), once=once))
