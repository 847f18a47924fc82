"""`segments segment …`: segments made, changed, listed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

import typer

from segments.cli import output, parameters
from segments.cli.completion import segment_names
from segments.cli.rule_options import RuleCommand, RuleOptions, format_progress, format_rule
from segments.cli.service import Service, ServiceCommand, options_of, service_of
from segments.cli.usage import UsageError
from segments.client import Member, Segment

app = typer.Typer(help="Segments: make, change, delete, list.", no_args_is_help=True)
_POLL_S = 0.3
_NEW = typer.Argument(help="its name", metavar="NAME", parser=parameters.segment)
_KNOWN = typer.Argument(help="its name", metavar="NAME", autocompletion=segment_names)


DescriptionOption = Annotated[str | None, typer.Option("--description", help="what it is for")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="return when everybody who is chosen has it")
]


@app.command(cls=RuleCommand)
def create(
    context: typer.Context,
    name: Annotated[str, _NEW],
    description: DescriptionOption = None,
    wait: WaitOption = False,  # noqa: FBT002 - an option
) -> None:
    """Make a segment; with --percent or --count it is given to users at once."""
    service = service_of(context)
    rule = options_of(context, RuleOptions)
    auto = rule.apply_to()
    _tell(service, service.client.create_segment(name, description=description, auto=auto), wait)


@app.command(cls=RuleCommand)
def update(
    context: typer.Context,
    name: Annotated[str, _KNOWN],
    description: DescriptionOption = None,
    wait: WaitOption = False,  # noqa: FBT002 - an option
) -> None:
    """Change a segment: what is not given stays. A percentage or count can only be raised."""
    service = service_of(context)
    rule = options_of(context, RuleOptions)
    if description is None and not rule.any:
        raise typer.BadParameter("say what to change: --description, --percent, …")
    auto = rule.apply_to(service.client.segment(name).auto) if rule.any else None
    _tell(service, service.client.update_segment(name, description=description, auto=auto), wait)


def _tell(service: Service, segment: Segment, wait: bool) -> None:  # noqa: FBT001 - as given
    if wait and segment.state == "assigning":
        segment = _assigned(service, segment)
    if service.json:
        output.document(segment.document())
    else:
        _describe(segment)


def _assigned(service: Service, segment: Segment) -> Segment:
    """The segment once it is active."""
    with output.progress("assigning") as bar:
        task = bar.add_task("users", total=None)
        while segment.state == "assigning":
            time.sleep(_POLL_S)
            segment = service.client.segment(segment.segment, min_position=segment.position)
            if segment.auto is not None:
                bar.update(task, total=segment.auto.target, completed=segment.auto.assigned or 0)
    return segment


def _describe(segment: Segment) -> None:
    told = [
        ("state", segment.state),
        ("description", segment.description or ""),
        ("created", output.when(segment.created_at)),
        ("members", str(segment.size)),
        ("generation, version", f"{segment.generation}, {segment.version}"),
    ]
    if (auto := segment.auto) is not None:
        told += [("rule", format_rule(segment.auto)), ("assigned", format_progress(segment.auto))]
        told += [("skipped", str(auto.skipped))] if auto.skipped else []
    output.table(["", segment.segment], told)


@app.command(cls=ServiceCommand)
def show(context: typer.Context, name: Annotated[str, _KNOWN]) -> None:
    """Show a segment: its rule, its size, how far an assignment is."""
    service = service_of(context)
    segment = service.client.segment(name)
    if service.json:
        output.document(segment.document())
    else:
        _describe(segment)


@app.command(cls=ServiceCommand)
def delete(
    context: typer.Context,
    name: Annotated[str, _KNOWN],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,  # noqa: FBT002
) -> None:
    """End a segment and every membership in it. On a terminal it asks first."""
    service = service_of(context)
    if not yes and sys.stdin.isatty():
        size = service.client.segment(name).size
        if not typer.confirm(f"Delete {name} and end {size} memberships?", err=True):
            raise UsageError("nothing was deleted")
    result = service.client.delete_segment(name)
    if service.json:
        output.document(result.document())
        return
    output.text(f"deleted {name}: command {result.command_id}, position {result.position}")
    if result.referenced_by:
        output.text(f"rules that name it: {', '.join(result.referenced_by)}")


@app.command("list", cls=ServiceCommand)
def list_all(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many")] = None,
) -> None:
    """List every segment in use, by name."""
    service = service_of(context)
    with service.client.segments(page_size=min(limit or 1_000, 1_000)) as found:
        wanted = islice(found, limit)
        if service.json:
            output.lines(segment.document() for segment in wanted)
            return
        output.table(
            ["segment", "state", "size", "rule", "assigned", "description"],
            [_row(segment) for segment in wanted],
        )


def _row(segment: Segment) -> list[str]:
    return [
        segment.segment,
        segment.state,
        str(segment.size),
        format_rule(segment.auto),
        format_progress(segment.auto),
        segment.description or "",
    ]


@app.command(cls=ServiceCommand)
def members(
    context: typer.Context,
    name: Annotated[str, _KNOWN],
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many")] = None,
) -> None:
    """List everybody who has a segment, by user id; status 1 when the list breaks off."""
    service = service_of(context)
    with service.client.members(name) as found:
        wanted = islice(found, limit)
        if service.json:
            output.lines(member.document() for member in wanted)
        else:
            _stream(_columns(wanted))


def _columns(members: Iterable[Member]) -> Iterator[str]:
    """Lines of fixed columns: millions of rows are not held for a table."""
    yield f"{'user':36}  {'since':25}  {'by':7}  until"
    for member in members:
        since = output.when(member.since)
        yield f"{member.user_id}  {since:25}  {member.origin:7}  {output.until(member.expires_at)}"


def _stream(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


@app.command(cls=RuleCommand)
def preview(context: typer.Context) -> None:
    """Count whom a rule lets through now, and how many it would choose; changes nothing."""
    service = service_of(context)
    rule = options_of(context, RuleOptions)
    auto = rule.apply_to()
    if auto is None:
        raise typer.BadParameter("a rule needs --percent or --count")
    found = service.client.preview_segment(auto)
    if service.json:
        output.document(found.document())
    else:
        output.text(f"{found.eligible} eligible, {found.target} would be chosen")
