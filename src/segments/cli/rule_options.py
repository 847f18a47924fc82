"""Options of automatic assignment rules, and rules as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from segments.cli import output, parameters
from segments.cli.completion import segment_names
from segments.cli.service import ServiceCommand, ServiceOptions
from segments.client import Rule
from segments.client.models import AssignedRule
from segments.contracts.times import duration_to_ms

_PANEL = "Rule: users to assign"


@dataclass(frozen=True)
class RuleOptions:
    """Options of a rule; None if not given."""

    percent: Annotated[
        float | None,
        typer.Option(
            "--percent",
            min=0,
            max=100,
            help="percentage of the eligible users",
            rich_help_panel=_PANEL,
        ),
    ] = None
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="number of users", rich_help_panel=_PANEL)
    ] = None
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="SEGMENT",
            help="only users in one of these segments",
            autocompletion=segment_names,
            rich_help_panel=_PANEL,
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="SEGMENT",
            help="no users in any of these segments",
            autocompletion=segment_names,
            rich_help_panel=_PANEL,
        ),
    ] = None
    account: Annotated[
        list[str] | None,
        typer.Option(
            "--account",
            metavar="STATE",
            help="only this account state: active (default), blocked, unknown",
            rich_help_panel=_PANEL,
        ),
    ] = None
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl",
            metavar="DURATION",
            help="lifetime of the memberships, such as P7D",
            parser=parameters.ttl,
            rich_help_panel=_PANEL,
        ),
    ] = None
    newcomers: Annotated[
        bool | None,
        typer.Option(
            "--newcomers/--no-newcomers",
            help="also assign users that become eligible later",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def _fields(self) -> dict[str, Any]:
        fields = {
            "percent": self.percent,
            "count": self.count,
            "include": self.include or None,
            "exclude": self.exclude or None,
            "accounts": self.account or None,
            "ttl": self.ttl,
            "newcomers": self.newcomers,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def any(self) -> bool:
        """Whether at least one option of a rule was given."""
        return bool(self._fields())

    def apply_to(self, current: AssignedRule | None = None) -> Rule | None:
        """The current rule with the given options replaced; None if no option was given.

        typer.BadParameter when the result has neither or both of percentage and count.
        """
        fields = self._fields()
        if not fields:
            return None
        if "percent" in fields and "count" in fields:
            raise typer.BadParameter("give --percent or --count, not both")
        base: dict[str, Any] = {} if current is None else _rule_fields(current)
        if "percent" in fields or "count" in fields:
            base |= {"percent": None, "count": None}
        rule = Rule(**(base | fields))
        if rule.percent is None and rule.count is None:
            raise typer.BadParameter("a rule needs --percent or --count")
        return rule


class RuleCommand(ServiceCommand):
    """A command of the service with the options of a rule."""

    groups = (RuleOptions, ServiceOptions)


def _rule_fields(rule: AssignedRule) -> dict[str, Any]:
    names = ("percent", "count", "include", "exclude", "accounts", "ttl", "newcomers")
    return {name: getattr(rule, name) for name in names}


def format_rule(rule: AssignedRule | None) -> str:
    """A rule as one line of text; empty without a rule."""
    if rule is None:
        return ""
    parts = [f"{rule.percent:g} %" if rule.percent is not None else f"{rule.count} users"]
    parts += [f"in {' or '.join(rule.include)}"] if rule.include else []
    parts += [f"not in {' or '.join(rule.exclude)}"] if rule.exclude else []
    parts += [f"accounts {', '.join(rule.accounts)}"] if rule.accounts != ("active",) else []
    parts += [f"for {output.duration(duration_to_ms(rule.ttl) / 1000)}"] if rule.ttl else []
    parts += ["and newcomers"] if rule.newcomers else []
    return ", ".join(parts)


def format_progress(rule: AssignedRule | None) -> str:
    """Progress of an assignment: `assigned of target`."""
    if rule is None:
        return ""
    return f"{rule.assigned or 0} of {'?' if rule.target is None else rule.target}"
