"""`segments state …`: check and repair the state of the shards."""

from __future__ import annotations

import typer

from segments.cli import output
from segments.settings import Settings

app = typer.Typer(help="The state of the shards on this machine.", no_args_is_help=True)


@app.command()
def digest(json: output.JsonOption = False) -> None:  # noqa: FBT002 - an option
    """Compare the stored state of each shard with a replay of its log (status 1 if they differ)."""
    from segments.streams import maintenance  # noqa: PLC0415 - loads the whole stream processor

    differing = 0
    for found in maintenance.digests(Settings()):
        equal = None if found.replayed is None else found.replayed == found.stored
        if equal is None:
            verdict = "not compared: the beginning of the log has been deleted"
        elif equal:
            verdict = "equal to the replay of the log"
        else:
            verdict = f"DIFFERS from the replay of the log: {found.replayed}"
            differing += 1
        if json:
            output.lines([found._asdict() | {"equal": equal}])
        else:
            typer.echo(f"{found.partition}:{found.offset} {found.stored} {verdict}")
    if differing:
        raise typer.Exit(1)


@app.command()
def reset(json: output.JsonOption = False) -> None:  # noqa: FBT002 - an option
    """Remove the stored state of this instance; it is restored from the changelog on startup."""
    from segments.streams import maintenance  # noqa: PLC0415 - loads the whole stream processor

    removed = maintenance.reset(Settings())
    if json:
        output.document({"removed": removed})
    else:
        typer.echo("removed" if removed else "nothing was stored")


@app.command()
def rebuild(json: output.JsonOption = False) -> None:  # noqa: FBT002 - an option
    """Restore missing committed offsets from the end of the changelog."""
    from segments.streams import maintenance  # noqa: PLC0415 - loads the whole stream processor

    offsets = maintenance.rebuild(Settings())
    if json:
        output.document({"offsets": {str(partition): at for partition, at in offsets.items()}})
        return
    for partition, offset in sorted(offsets.items()):
        typer.echo(f"partition {partition} continues at offset {offset}")
    if not offsets:
        typer.echo("no committed offset is missing")
