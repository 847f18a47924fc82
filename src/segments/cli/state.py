"""`segments state …`."""

from __future__ import annotations

import typer

from segments.settings import Settings
from segments.streams import operations

app = typer.Typer(help="The shards' state on this machine.", no_args_is_help=True)


@app.command()
def digest() -> None:
    """Compare the stored state of each shard with a replay of its log (status 1 if they differ)."""
    differing = 0
    for found in operations.digests(Settings()):
        if found.replayed is None:
            verdict = "not compared: the log no longer begins at its first record"
        elif found.replayed == found.stored:
            verdict = "equal to the replay of the log"
        else:
            verdict = f"DIFFERS from the replay of the log: {found.replayed}"
            differing += 1
        typer.echo(f"{found.partition}:{found.offset} {found.stored} {verdict}")
    if differing:
        raise typer.Exit(1)


@app.command()
def reset() -> None:
    """Remove the stored state of this instance; it is restored from the changelog at the start."""
    removed = operations.reset(Settings())
    typer.echo("removed" if removed else "nothing was stored")


@app.command()
def rebuild() -> None:
    """Set missing committed offsets to where the changelog ends."""
    offsets = operations.rebuild(Settings())
    for partition, offset in sorted(offsets.items()):
        typer.echo(f"partition {partition} goes on at offset {offset}")
    if not offsets:
        typer.echo("no committed offset is missing")
