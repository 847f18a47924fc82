"""The command line. `segments --help` lists the commands.

To add a group of commands, add a module with a `typer.Typer` here and list it in `_GROUPS`. Modules
import the stream processor only in the commands that need it, so that `segments user show` and
shell completion start fast.

Exit status: 0 success, 1 rejected or failed, 2 usage error, 130 interrupted by Ctrl-C.
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
    help="A Kafka-native service that assigns users to segments and records why.",
    epilog="Exit status: 0 success, 1 rejected or failed, 2 usage error, 130 interrupted (Ctrl-C).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_DATA, _RUN, _OPERATE = "Read and write", "Run", "Operate"
_GROUPS = {
    _DATA: {"user": user.app, "segment": segment.app, "users": user.users_app},
    _RUN: {},
    _OPERATE: {"keys": keys.app, "topics": topics.app, "state": state.app},
}
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    _DATA: {"send": send.send, "result": result.result, "report": report.report},
    _RUN: {"up": run.up, "demo": run.demo, "run": run.run, "kafka": run.kafka},
    _OPERATE: {"doctor": doctor.doctor, "settings": settings.settings, "openapi": openapi.openapi},
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
        message = errors.lines(error)
        if message is None:
            raise
        for number, line in enumerate(message):
            console.print("[bold red]error:[/] " if number == 0 else "", end="")
            console.print(line, markup=False)
        sys.exit(1)
