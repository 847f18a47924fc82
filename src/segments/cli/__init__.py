"""The command line. `segments --help` lists the commands.

A further group of commands is a module here with a `typer.Typer`, added in `_GROUPS`. Modules load
the stream processor only in the command that needs it: `segments user show` and the shell's
completion answer at once.

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer
from rich.console import Console

from segments.cli import (
    doctor,
    errors,
    keys,
    openapi,
    report,
    result,
    run,
    segment,
    send,
    settings,
    state,
    topics,
    user,
)
from segments.cli.service import ServiceCommand

app = typer.Typer(
    name="segments",
    help="Who is in which segment, and why: a service on Kafka.",
    epilog="Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 ended by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_ASK, _RUN, _KEEP = "Ask and change", "Run", "Look after"
_GROUPS = {
    _ASK: {"user": user.app, "segment": segment.app, "users": user.users_app},
    _RUN: {},
    _KEEP: {"keys": keys.app, "topics": topics.app, "state": state.app},
}
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    _ASK: {"send": send.send, "result": result.result, "report": report.report},
    _RUN: {"up": run.up, "demo": run.demo, "run": run.run, "kafka": run.kafka},
    _KEEP: {"doctor": doctor.doctor, "settings": settings.settings, "openapi": openapi.openapi},
}
_CLASSES = {result.result: ServiceCommand, report.report: report.ReportCommand}
for _panel, _groups in _GROUPS.items():
    for _name, _group in _groups.items():
        app.add_typer(_group, name=_name, rich_help_panel=_panel)
    for _name, _command in _COMMANDS[_panel].items():
        app.command(_name, cls=_CLASSES.get(_command), rich_help_panel=_panel)(_command)


def main() -> None:
    """Entry point of the console script."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(prog_name="segments")
    except Exception as error:
        told = errors.lines(error)
        if told is None:
            raise
        for number, line in enumerate(told):
            console.print("[bold red]error:[/] " if number == 0 else "", end="")
            console.print(line, markup=False)
        sys.exit(1)
