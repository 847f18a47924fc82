"""`segments send`: produce commands to Kafka, as any other service would."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import orjson
import typer
from confluent_kafka import Consumer, KafkaException, Producer

from segments.cli import output, send_file
from segments.cli.command_file import Lines
from segments.cli.result_consumer import results_from_now
from segments.cli.usage import UsageError
from segments.contracts.commands import COMMAND_ADAPTER
from segments.contracts.topics import COMMANDS_TOPIC
from segments.settings import Settings

_DELIVERY_TIMEOUT_S = 30.0
_POLL_S = 0.2


def send(  # noqa: PLR0913, PLR0917 - each is an option
    command: Annotated[str | None, typer.Argument(help="command as JSON")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="file with a command per line, or with user ids: see --add"),
    ] = None,
    add: Annotated[str | None, typer.Option(help="add the users of --file to this segment")] = None,
    remove: Annotated[
        str | None, typer.Option(help="remove the users of --file from this segment")
    ] = None,
    rejected: Annotated[
        Path | None, typer.Option(help="file for rejected lines; default FILE.rejected")
    ] = None,
    wait: Annotated[bool, typer.Option(help="wait for the result and print it")] = False,  # noqa: FBT002
    timeout_s: Annotated[
        float, typer.Option(min=0.1, max=600, help="longest wait, in seconds")
    ] = 30.0,
    json: output.JsonOption = False,  # noqa: FBT002 - an option
) -> None:
    """Send one command, or the commands of a file and wait for their results.

    With --add or --remove, the file has user ids. The exit status is 1 if a result is a rejection,
    or if a line was invalid, was not sent or got no result.
    """
    if (command is None) == (file is None):
        raise typer.BadParameter("give one command, or --file")
    settings = Settings()
    if file is not None:
        lines = Lines(file, add=add, remove=remove)
        target = rejected or file.with_name(f"{file.name}.rejected")
        raise typer.Exit(send_file.send(settings, lines, target, timeout_s, as_json=json))
    if add is not None or remove is not None or rejected is not None:
        raise typer.BadParameter("--add, --remove and --rejected need --file")
    assert command is not None
    document, key = parse_command(command)
    results = results_from_now(settings) if wait else None
    try:
        _produce(settings, key, orjson.dumps(document))
        if results is None:
            sent = {"command_id": document["id"]}
            output.document(sent) if json else typer.echo(document["id"])
            return
        result = _wait_for_result(results, document["id"], timeout_s)
    finally:
        if results is not None:
            results.close()
    output.document(result)
    if result["status"] == "rejected":
        raise typer.Exit(1)


def parse_command(command: str) -> tuple[dict[str, Any], str]:
    """(the command with an id, its record key). The key keeps a user's or segment's order."""
    try:
        document = orjson.loads(command)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the command is not JSON: {error}") from error
    parsed = COMMAND_ADAPTER.validate_python(document)
    document["id"] = parsed.id or str(uuid4())
    return document, parsed.routing_key(document["id"])


def _produce(settings: Settings, key: str, value: bytes) -> None:
    failures: list[str] = []
    producer = Producer(settings.client_config() | {"message.timeout.ms": 20_000})
    producer.produce(
        settings.topic(COMMANDS_TOPIC),
        key=key,
        value=value,
        on_delivery=lambda error, _: failures.append(str(error)) if error else None,
    )
    if producer.flush(_DELIVERY_TIMEOUT_S) or failures:
        reason = failures[0] if failures else "no response"
        raise UsageError(
            f"Kafka at {settings.kafka.bootstrap_servers} did not accept the command: {reason}"
        )


def _wait_for_result(consumer: Consumer, command_id: str, timeout_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        message = consumer.poll(_POLL_S)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        if message.key() == command_id.encode():
            result: dict[str, Any] = orjson.loads(message.value() or b"{}")
            return result
    raise UsageError(f"no result of {command_id} within {timeout_s:g} s; it may still arrive")
