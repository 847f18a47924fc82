"""`segments user …` and `segments users …`: memberships, history and imports of users."""

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

app = typer.Typer(help="Memberships and history of a user.", no_args_is_help=True)


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
            help="only this segment, with the cause of the membership",
            autocompletion=segment_names,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="at this past time, such as 2026-11-24T15:00:00Z",
            parser=parameters.instant,
            metavar="INSTANT",
        ),
    ] = None,
) -> None:
    """Show the active segments of a user, or one membership with its cause (--segment)."""
    service = service_of(context)
    if segment is not None and at is not None:
        raise typer.BadParameter("--segment and --at are mutually exclusive")
    if segment is not None:
        _show_membership(service, user, segment)
        return
    found = service.client.user_segments(user, at=at)
    if service.json:
        output.document(found.document())
        return
    output.table(
        ["segment", "since", "until", "by"], [_membership_row(each) for each in found.segments]
    )
    if at is not None:
        output.text(f"{len(found.segments)} segments at {output.when(found.at)}")
    else:
        age = output.duration((found.staleness_ms or 0) / 1000)
        output.text(f"{len(found.segments)} segments, account {found.account}, as of {age} ago")


def _membership_row(membership: Membership) -> list[str]:
    return [
        membership.segment,
        output.when(membership.since),
        output.until(membership.expires_at),
        membership.origin,
    ]


def _show_membership(service: Service, user: str, segment: str) -> None:
    found = service.client.membership(user, segment)
    if service.json:
        output.document(found.document())
        return
    rows = [
        ("segment", found.segment),
        ("since", output.when(found.since)),
        ("until", output.until(found.expires_at)),
        ("by", found.origin),
    ]
    if found.why is None:
        rows.append(("why", "not in the history yet"))
    else:
        rows.append(("why", _format_cause(found.why.began)))
        if found.why.end_set is not None:
            rows.append(("end set", _format_cause(found.why.end_set)))
    output.table(["", user], rows)


def _format_cause(row: HistoryRow) -> str:
    parts = [f"{row.operation} at {output.when(row.at)}", f"cause {row.cause}"]
    parts += [f"command {row.command_id}"] if row.command_id else []
    parts += [f"by {row.actor}"] if row.actor else []
    return ", ".join(parts)


@app.command(cls=ServiceCommand)
def history(
    context: typer.Context,
    user: UserArgument,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", help="from this time on", parser=parameters.instant, metavar="INSTANT"
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", help="before this time", parser=parameters.instant, metavar="INSTANT"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of rows")] = None,
) -> None:
    """List the membership changes of a user, newest first."""
    service = service_of(context)
    page_size = min(limit or 1_000, 1_000)
    with service.client.history(user, since=since, until=until, page_size=page_size) as rows:
        limited = islice(rows, limit)
        if service.json:
            output.lines(row.document() for row in limited)
            return
        output.table(
            ["at", "operation", "segment", "until", "cause", "command", "actor"],
            [_history_row(row) for row in limited],
        )


def _history_row(row: HistoryRow) -> list[str]:
    end = "" if row.operation == "remove" else output.when(row.expires_at, none="never")
    return [
        output.when(row.at),
        row.operation,
        row.segment,
        end,
        row.cause,
        row.command_id or "",
        row.actor or "",
    ]


def parse_addition(text: str) -> Add:
    """Parse `NAME`, `NAME:P7D`, `NAME@P7D` or `NAME@INSTANT`. ValueError for anything else.

    A name may contain colons: the part after the last one is an end only if it is a duration.
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
            help="add to this segment, optionally until: beta:P7D, beta@2026-12-01T00:00:00Z",
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
        str | None, typer.Option(help="id of the command; repeating it has no further effect")
    ] = None,
) -> None:
    """Add a user to segments and remove it from others, all or nothing."""
    service = service_of(context)
    if not add and not remove:
        raise typer.BadParameter("give --add or --remove; both can be repeated")
    try:
        additions = [parse_addition(each) for each in add or ()]
    except ValueError as error:
        raise typer.BadParameter(f"--add: {error}") from None
    result = service.client.change(user, add=additions, remove=remove or (), idempotency_key=key)
    if service.json:
        output.document(result.document())
        return
    labels: dict[str, Any] = {"add": "added to", "remove": "removed from", "extend": "new end in"}
    for changed in result.changes:
        output.text(f"{labels[changed.operation]} {changed.segment}")
    output.text(f"{result.status}: command {result.command_id}, position {result.position}")


users_app = typer.Typer(help="Changes of the user replica.", no_args_is_help=True)


@users_app.command("import", cls=ServiceCommand)
def import_users(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="NDJSON or CSV (user_id;state), optionally .gz")],
) -> None:
    """Import users from a file; the service needs dev.enabled.

    Importing a file again changes nothing. The exit status is 1 if a line was rejected.
    """
    service = service_of(context)
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    counts = _import(service, file)
    if service.json:
        output.document(counts.document())
    else:
        output.text(f"{counts.accepted} users accepted, {counts.refused} lines rejected")
        for refused in counts.errors:
            output.text(f"line {refused.line}: {refused.field}: {refused.detail}")
    if counts.refused:
        raise typer.Exit(1)


def _import(service: Service, file: Path) -> Imported:
    with output.progress("import", size=True) as bar:
        task = bar.add_task("bytes", total=file.stat().st_size)
        try:
            return service.client.import_users(file, progress=lambda n: bar.advance(task, n))
        except NotFoundError:
            raise UsageError(
                f"{service.url} has no developer methods: enable the setting dev.enabled"
            ) from None
        except InvalidError as error:
            raise UsageError(str(error)) from None
