"""The options that make a rule, and a rule in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from segments.cli import output, parameters
from segments.cli.completion import segment_names
from segments.cli.service import Options
from segments.client import Rule
from segments.client.models import AssignedRule
from segments.contracts.times import duration_to_ms

_PANEL = "Rule: whom the segment is given to"


@dataclass(frozen=True)
class RuleOptions(Options):
    """What was said of a rule; None where nothing was said."""

    percent: Annotated[
        float | None,
        typer.Option("--percent", min=0, max=100, help="this share", rich_help_panel=_PANEL),
    ] = None
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="so many", rich_help_panel=_PANEL)
    ] = None
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="SEGMENT",
            help="only users in one of these",
            autocompletion=segment_names,
            rich_help_panel=_PANEL,
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="SEGMENT",
            help="no users in any of these",
            autocompletion=segment_names,
            rich_help_panel=_PANEL,
        ),
    ] = None
    account: Annotated[
        list[str] | None,
        typer.Option(
            "--account",
            metavar="STATE",
            help="users with this account: active (if none is given), blocked, unknown",
            rich_help_panel=_PANEL,
        ),
    ] = None
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl",
            metavar="DURATION",
            help="for how long, such as P7D",
            parser=parameters.ttl,
            rich_help_panel=_PANEL,
        ),
    ] = None
    newcomers: Annotated[
        bool | None,
        typer.Option(
            "--newcomers/--no-newcomers",
            help="whoever becomes eligible later joins by the same threshold",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def _told(self) -> dict[str, Any]:
        told = {
            "percent": self.percent,
            "count": self.count,
            "include": self.include or None,
            "exclude": self.exclude or None,
            "accounts": self.account or None,
            "ttl": self.ttl,
            "newcomers": self.newcomers,
        }
        return {name: value for name, value in told.items() if value is not None}

    @property
    def any(self) -> bool:
        """Whether anything was said."""
        return bool(self._told())

    def rule(self, before: AssignedRule | None = None) -> Rule | None:
        """The rule; what was not said is as it was before. None when nothing was said."""
        told = self._told()
        if not told:
            return None
        if "percent" in told and "count" in told:
            raise typer.BadParameter("give --percent or --count, not both")
        base: dict[str, Any] = {} if before is None else _given(before)
        if "percent" in told or "count" in told:
            base |= {"percent": None, "count": None}
        made = Rule(**(base | told))
        if made.percent is None and made.count is None:
            raise typer.BadParameter("a rule needs --percent or --count")
        return made


def _given(auto: AssignedRule) -> dict[str, Any]:
    names = ("percent", "count", "include", "exclude", "accounts", "ttl", "newcomers")
    return {name: getattr(auto, name) for name in names}


def told_rule(auto: AssignedRule | None) -> str:
    """A rule in words."""
    if auto is None:
        return ""
    told = [f"{auto.percent:g} %" if auto.percent is not None else f"{auto.count} users"]
    told += [f"in {' or '.join(auto.include)}"] if auto.include else []
    told += [f"not in {' or '.join(auto.exclude)}"] if auto.exclude else []
    told += [f"accounts {', '.join(auto.accounts)}"] if auto.accounts != ("active",) else []
    told += [f"for {output.duration(duration_to_ms(auto.ttl) / 1000)}"] if auto.ttl else []
    told += ["and newcomers"] if auto.newcomers else []
    return ", ".join(told)


def told_progress(auto: AssignedRule | None) -> str:
    """How far an assignment is."""
    if auto is None:
        return ""
    return f"{auto.assigned or 0} of {'?' if auto.target is None else auto.target}"
