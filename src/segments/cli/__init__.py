"""The command line. `segments --help` lists the commands.

A further group of commands is a module here with a `typer.Typer`, added in `_GROUPS`.
"""

from __future__ import annotations

import sys

import typer
from confluent_kafka import KafkaException
from pydantic import ValidationError
from rich.console import Console

from segments.cli import keys, operate, report, run, send, state, topics, users
from segments.http.keys import KeysError
from segments.kafka import KafkaError
from segments.kafka_jars import JarsError
from segments.ports import PortInUseError
from segments.settings.access import ExposedError
from segments.streams.operations import OperationError
from segments.streams.startup import StartRefusedError
from segments.topics import TopicsError

app = typer.Typer(
    name="segments",
    help="Who is in which segment, and why: a service on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_GROUPS = {"keys": keys.app, "topics": topics.app, "state": state.app, "users": users.app}

app.command()(run.up)
app.command()(run.demo)
app.command("run")(run.run)
app.command()(run.kafka)
app.command("send")(send.send)
app.command("report")(report.report)
app.command("settings")(operate.settings)
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)

# What an operator can mend: told in a line or two, without a traceback.
_EXPLAINED = (
    KafkaError,
    JarsError,
    PortInUseError,
    TopicsError,
    FileNotFoundError,
    operate.UsageError,
    OperationError,
    StartRefusedError,
    ExposedError,
    KeysError,
)


def main() -> None:
    """Entry point of the console script."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app()
    except _EXPLAINED as error:
        console.print(f"[bold red]error:[/] {_escaped(error)}")
    except KafkaException as error:
        console.print(f"[bold red]error:[/] Kafka: {_escaped(error.args[0])}")
    except ValidationError as error:
        console.print(f"[bold red]error:[/] {_escaped(_fields(error))}")
    else:
        return
    sys.exit(1)


def _escaped(error: object) -> str:
    return str(error).replace("[", r"\[")


def _fields(error: ValidationError) -> str:
    lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
    return f"{error.title}:\n" + "\n".join(lines)
