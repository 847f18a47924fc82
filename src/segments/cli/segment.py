"""`segments segment …`: create, change, delete and list segments."""

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

app = typer.Typer(help="Create, change, delete and list segments.", no_args_is_help=True)
_POLL_S = 0.3
_NEW = typer.Argument(help="name of the segment", metavar="NAME", parser=parameters.segment)
_EXISTING = typer.Argument(help="name of the segment", metavar="NAME", autocompletion=segment_names)


DescriptionOption = Annotated[
    str | None, typer.Option("--description", help="description of the segment")
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="wait until all selected users are assigned")
]


@app.command(cls=RuleCommand)
def create(
    context: typer.Context,
    name: Annotated[str, _NEW],
    description: DescriptionOption = None,
    wait: WaitOption = False,  # noqa: FBT002 - an option
) -> None:
    """Create a segment; with --percent or --count, assign users to it automatically."""
    service = service_of(context)
    rule = options_of(context, RuleOptions)
    auto = rule.apply_to()
    _finish(service, service.client.create_segment(name, description=description, auto=auto), wait)


@app.command(cls=RuleCommand)
def update(
    context: typer.Context,
    name: Annotated[str, _EXISTING],
    description: DescriptionOption = None,
    wait: WaitOption = False,  # noqa: FBT002 - an option
) -> None:
    """Change a segment; options not given stay unchanged. Percentage and count can only grow."""
    service = service_of(context)
    rule = options_of(context, RuleOptions)
    if description is None and not rule.any:
        raise typer.BadParameter("nothing to change: give --description, --percent, …")
    auto = rule.apply_to(service.client.segment(name).auto) if rule.any else None
    _finish(service, service.client.update_segment(name, description=description, auto=auto), wait)


def _finish(service: Service, segment: Segment, wait: bool) -> None:  # noqa: FBT001 - passed on
    if wait and segment.state == "assigning":
        segment = _wait_until_assigned(service, segment)
    if service.json:
        output.document(segment.document())
    else:
        _describe(segment)


def _wait_until_assigned(service: Service, segment: Segment) -> Segment:
    """Poll the segment until it is active, with a progress bar."""
    with output.progress("assigning") as bar:
        task = bar.add_task("users", total=None)
        while segment.state == "assigning":
            time.sleep(_POLL_S)
            segment = service.client.segment(segment.segment, min_position=segment.position)
            if segment.auto is not None:
                bar.update(task, total=segment.auto.target, completed=segment.auto.assigned or 0)
    return segment


def _describe(segment: Segment) -> None:
    rows = [
        ("state", segment.state),
        ("description", segment.description or ""),
        ("created", output.when(segment.created_at)),
        ("members", str(segment.size)),
        ("generation, version", f"{segment.generation}, {segment.version}"),
    ]
    if (auto := segment.auto) is not None:
        rows += [("rule", format_rule(segment.auto)), ("assigned", format_progress(segment.auto))]
        rows += [("skipped", str(auto.skipped))] if auto.skipped else []
    output.table(["", segment.segment], rows)


@app.command(cls=ServiceCommand)
def show(context: typer.Context, name: Annotated[str, _EXISTING]) -> None:
    """Show a segment: rule, size, progress of the assignment."""
    service = service_of(context)
    segment = service.client.segment(name)
    if service.json:
        output.document(segment.document())
    else:
        _describe(segment)


@app.command(cls=ServiceCommand)
def delete(
    context: typer.Context,
    name: Annotated[str, _EXISTING],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask for confirmation")] = False,  # noqa: FBT002
) -> None:
    """Delete a segment and all its memberships; asks for confirmation on a terminal."""
    service = service_of(context)
    if not yes and sys.stdin.isatty():
        size = service.client.segment(name).size
        if not typer.confirm(f"Delete {name} and its {size} memberships?", err=True):
            raise UsageError("nothing was deleted")
    result = service.client.delete_segment(name)
    if service.json:
        output.document(result.document())
        return
    output.text(f"deleted {name}: command {result.command_id}, position {result.position}")
    if result.referenced_by:
        output.text(f"rules that refer to it: {', '.join(result.referenced_by)}")


@app.command("list", cls=ServiceCommand)
def list_all(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of items")] = None,
) -> None:
    """List all segments, by name."""
    service = service_of(context)
    with service.client.segments(page_size=min(limit or 1_000, 1_000)) as found:
        limited = islice(found, limit)
        if service.json:
            output.lines(segment.document() for segment in limited)
            return
        output.table(
            ["segment", "state", "size", "rule", "assigned", "description"],
            [_row(segment) for segment in limited],
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
    name: Annotated[str, _EXISTING],
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of items")] = None,
) -> None:
    """List the members of a segment, by user id; exit status 1 if the list is incomplete."""
    service = service_of(context)
    with service.client.members(name) as found:
        limited = islice(found, limit)
        if service.json:
            output.lines(member.document() for member in limited)
        else:
            _stream(_member_lines(limited))


def _member_lines(members: Iterable[Member]) -> Iterator[str]:
    """Lines with fixed columns; a table would hold millions of rows in memory."""
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
    """Count the users eligible under a rule and how many it would select; changes nothing."""
    service = service_of(context)
    rule = options_of(context, RuleOptions)
    auto = rule.apply_to()
    if auto is None:
        raise typer.BadParameter("a rule needs --percent or --count")
    found = service.client.preview_segment(auto)
    if service.json:
        output.document(found.document())
    else:
        output.text(f"{found.eligible} eligible, {found.target} would be selected")
