"""`segments user …`: what a user has, had, and is given."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from segments.cli import output, parameters
from segments.cli.completion import segment_names
from segments.cli.service import Service, ServiceCommand, service_of
from segments.cli.usage import UsageError
from segments.client import Add, HistoryRow, Imported, InvalidError, Membership, NotFoundError
from segments.contracts.names import check_segment_name
from segments.contracts.times import duration_to_ms, from_rfc3339

app = typer.Typer(help="What a user has, had, and is given.", no_args_is_help=True)


UserArgument = Annotated[
    str, typer.Argument(help="user id, a UUID", parser=parameters.user, metavar="USER")
]


@app.command(cls=ServiceCommand)
def show(
    context: typer.Context,
    user: UserArgument,
    segment: Annotated[
        str | None,
        typer.Option(
            "--segment",
            help="this one alone, with why the user has it",
            autocompletion=segment_names,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="as it was at this instant, such as 2026-11-24T15:00:00Z",
            parser=parameters.instant,
            metavar="INSTANT",
        ),
    ] = None,
) -> None:
    """Show the active segments of a user; with --segment one of them, and why the user has it."""
    service = service_of(context)
    if segment is not None and at is not None:
        raise typer.BadParameter("give --segment or --at, not both")
    if segment is not None:
        _show_one(service, user, segment)
        return
    found = service.client.user_segments(user, at=at)
    if service.json:
        output.document(found.document())
        return
    output.table(["segment", "since", "until", "by"], [_held(held) for held in found.segments])
    if at is not None:
        output.text(f"{len(found.segments)} segments at {output.when(found.at)}")
    else:
        age = output.duration((found.staleness_ms or 0) / 1000)
        output.text(f"{len(found.segments)} segments, account {found.account}, as of {age} ago")


def _held(held: Membership) -> list[str]:
    return [held.segment, output.when(held.since), output.until(held.expires_at), held.origin]


def _show_one(service: Service, user: str, segment: str) -> None:
    found = service.client.membership(user, segment)
    if service.json:
        output.document(found.document())
        return
    told = [
        ("segment", found.segment),
        ("since", output.when(found.since)),
        ("until", output.until(found.expires_at)),
        ("by", found.origin),
    ]
    if found.why is None:
        told.append(("why", "not in the history yet"))
    else:
        told.append(("why", _reason(found.why.began)))
        if found.why.end_set is not None:
            told.append(("end set", _reason(found.why.end_set)))
    output.table(["", user], told)


def _reason(row: HistoryRow) -> str:
    told = [f"{row.operation} at {output.when(row.at)}", f"cause {row.cause}"]
    told += [f"command {row.command_id}"] if row.command_id else []
    told += [f"by {row.actor}"] if row.actor else []
    return ", ".join(told)


@app.command(cls=ServiceCommand)
def history(
    context: typer.Context,
    user: UserArgument,
    since: Annotated[
        str | None,
        typer.Option("--from", help="not before", parser=parameters.instant, metavar="INSTANT"),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", help="before this", parser=parameters.instant, metavar="INSTANT"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many rows")] = None,
) -> None:
    """List every change of a user, newest first."""
    service = service_of(context)
    page_size = min(limit or 1_000, 1_000)
    with service.client.history(user, since=since, until=until, page_size=page_size) as rows:
        wanted = islice(rows, limit)
        if service.json:
            output.lines(row.document() for row in wanted)
            return
        output.table(
            ["at", "operation", "segment", "until", "cause", "command", "actor"],
            [_row(row) for row in wanted],
        )


def _row(row: HistoryRow) -> list[str]:
    end = "" if row.operation == "remove" else output.when(row.expires_at, none="for good")
    return [
        output.when(row.at),
        row.operation,
        row.segment,
        end,
        row.cause,
        row.command_id or "",
        row.actor or "",
    ]


def parsed_addition(text: str) -> Add:
    """`NAME`, `NAME:P7D`, `NAME@P7D` or `NAME@INSTANT`; ValueError when it is none of them.

    A name may have colons: what follows the last one is an end only when it is a duration.
    """
    name, at, end = text.rpartition("@")
    if at:
        check_segment_name(name)
        if end.startswith("P"):
            duration_to_ms(end)
            return Add(name, ttl=end)
        from_rfc3339(end)
        return Add(name, expires_at=end)
    name, colon, end = text.rpartition(":")
    if colon and _is_duration(end):
        return Add(check_segment_name(name), ttl=end)
    return Add(check_segment_name(text))


def _is_duration(text: str) -> bool:
    try:
        duration_to_ms(text)
    except ValueError:
        return False
    return True


@app.command(cls=ServiceCommand)
def change(
    context: typer.Context,
    user: UserArgument,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="SEGMENT[:TTL]",
            help="add to this segment; with an end: beta:P7D, beta@2026-12-01T00:00:00Z",
            autocompletion=segment_names,
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove",
            metavar="SEGMENT",
            help="remove from this segment",
            autocompletion=segment_names,
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="id of the command: the same again changes nothing")
    ] = None,
) -> None:
    """Add a user to segments and remove it from others, all or nothing."""
    service = service_of(context)
    if not add and not remove:
        raise typer.BadParameter("give --add or --remove, each as often as needed")
    try:
        additions = [parsed_addition(each) for each in add or ()]
    except ValueError as error:
        raise typer.BadParameter(f"--add: {error}") from None
    result = service.client.change(user, add=additions, remove=remove or (), idempotency_key=key)
    if service.json:
        output.document(result.document())
        return
    told: dict[str, Any] = {"add": "added to", "remove": "removed from", "extend": "new end in"}
    for changed in result.changes:
        output.text(f"{told[changed.operation]} {changed.segment}")
    output.text(f"{result.status}: command {result.command_id}, position {result.position}")


users_app = typer.Typer(help="The replica of the users, by hand.", no_args_is_help=True)


@users_app.command("import", cls=ServiceCommand)
def import_users(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="NDJSON or CSV (user_id;state), .gz or not")],
) -> None:
    """Add or change the users of a file; the service must have dev.enabled.

    Sending a file again changes nothing. The exit status is 1 when a line was refused.
    """
    service = service_of(context)
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    counts = _sent(service, file)
    if service.json:
        output.document(counts.document())
    else:
        output.text(f"{counts.accepted} users taken, {counts.refused} lines refused")
        for refused in counts.errors:
            output.text(f"line {refused.line}: {refused.field}: {refused.detail}")
    if counts.refused:
        raise typer.Exit(1)


def _sent(service: Service, file: Path) -> Imported:
    with output.progress("import", size=True) as bar:
        task = bar.add_task("bytes", total=file.stat().st_size)
        try:
            return service.client.import_users(file, progress=lambda n: bar.advance(task, n))
        except NotFoundError:
            raise UsageError(
                f"{service.url} has no developer methods: they need the setting dev.enabled"
            ) from None
        except InvalidError as error:
            raise UsageError(str(error)) from None
