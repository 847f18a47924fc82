"""`segments send --file`: many commands to Kafka, and what became of each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import orjson
import typer
from confluent_kafka import Consumer, KafkaException, Producer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segments.cli.operate import UsageError
from segments.cli.results import results_from_now
from segments.contracts.commands import COMMANDS, key_of
from segments.settings import Settings

COMMANDS_TOPIC = "segments.commands"
IN_FLIGHT_MAX = 20_000
LINE_MAX_BYTES = 1_000_000
_RESULTS_AT_ONCE = 5_000
_POLL_S = 0.05


class Lines:
    """The commands of a file: as they stand there, or made of user ids, one a line."""

    def __init__(self, path: Path, *, add: str | None, remove: str | None) -> None:
        if add is not None and remove is not None:
            raise UsageError("give --add or --remove, not both")
        if not path.is_file():
            raise UsageError(f"no such file: {path}")
        self.path = path
        self._change = {"add": [add]} if add else {"remove": [remove]} if remove else None

    def count(self) -> int:
        """How many lines say something."""
        with self.path.open("rb") as file:
            return sum(1 for line in file if line.strip())

    def commands(self) -> Iterator[tuple[int, bytes, dict[str, Any] | None, str]]:
        """(number, line, command with an id, key); the reason in place of the key, and no command,
        for a line that is none."""
        with self.path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LINE_MAX_BYTES), b""), 1):
                text = line.strip()
                if text:
                    yield number, text, *self._command(text)

    def _command(self, text: bytes) -> tuple[dict[str, Any] | None, str]:
        try:
            document = orjson.loads(text) if self._change is None else self._of_user(text)
            command = COMMANDS.validate_python(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return None, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"
        except ValueError as error:
            return None, str(error)
        document["id"] = command.id or str(uuid4())
        return document, key_of(command, document["id"])

    def _of_user(self, text: bytes) -> dict[str, Any]:
        assert self._change is not None
        return {"type": "change_memberships", "user_id": text.decode()} | self._change


class Sending:
    """Commands on their way, and what is known of those that came back."""

    def __init__(self, settings: Settings, results: Consumer, rejected: IO[bytes]) -> None:
        self._topic = settings.topic(COMMANDS_TOPIC)
        self._producer = Producer(
            settings.client_config() | {"partitioner": "murmur2", "enable.idempotence": True}
        )
        self._results = results
        self._rejected = rejected
        self._waiting: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def produce(self, line: bytes, command: dict[str, Any], key: str) -> None:
        """Send a command; an id that is on its way already counts once."""
        self._waiting[command["id"]] = line
        while True:
            try:
                self._producer.produce(self._topic, orjson.dumps(command), key)
            except BufferError:
                self._producer.poll(_POLL_S)
            else:
                self._producer.poll(0)
                return

    def refuse(self, number: int, line: bytes, reason: str) -> None:
        """A line that is no command."""
        self.counts["invalid"] += 1
        self._write({"line": number, "text": line.decode(errors="replace"), "detail": reason})

    def gather(self, timeout_s: float) -> int:
        """Take the results that have come; how many of ours there were."""
        self._producer.poll(0)
        found = 0
        for message in self._results.consume(_RESULTS_AT_ONCE, timeout_s):
            if message.error():
                raise KafkaException(message.error())
            line = self._waiting.pop((message.key() or b"").decode(), None)
            if line is not None:
                found += 1
                self._settle(line, orjson.loads(message.value() or b"{}"))
        return found

    def _settle(self, line: bytes, result: dict[str, Any]) -> None:
        self.counts[result["status"]] += 1
        if result["status"] == "rejected":
            self._write({"text": line.decode(errors="replace"), "error": result["error"]})

    def lost(self) -> None:
        """Whatever still waits has had no result in time."""
        for line in self._waiting.values():
            self.counts["no_result"] += 1
            self._write({"text": line.decode(errors="replace"), "detail": "no result in time"})

    def _write(self, entry: dict[str, Any]) -> None:
        self._rejected.write(orjson.dumps(entry) + b"\n")


def send(settings: Settings, lines: Lines, rejected: Path, timeout_s: float) -> int:
    """Send every line and wait for its result; the exit status.

    `timeout_s`: how long to wait when no further result comes.
    """
    total = lines.count()
    with ExitStack() as stack:
        results = results_from_now(settings)
        stack.callback(results.close)
        file = stack.enter_context(rejected.open("wb"))
        sending = Sending(settings, results, file)
        progress = stack.enter_context(_progress())
        task = progress.add_task("commands", total=total)

        def gather(most: int) -> bool:
            """Take results until at most so many wait; whether they came in time."""
            heard_at_s = time.monotonic()
            while sending.waiting > most:
                if sending.gather(_POLL_S):
                    heard_at_s = time.monotonic()
                    progress.update(task, completed=sum(sending.counts.values()))
                elif time.monotonic() - heard_at_s > timeout_s:
                    return False
            return True

        for number, line, command, key in lines.commands():
            if command is None:
                sending.refuse(number, line, key)
            else:
                sending.produce(line, command, key)
            if sending.waiting >= IN_FLIGHT_MAX and not gather(IN_FLIGHT_MAX // 2):
                break
        if not gather(0):
            sending.lost()
    return _conclude(sending.counts, total, rejected)


def _conclude(counts: Counter[str], total: int, rejected: Path) -> int:
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    typer.echo(f"{total} lines: {told or 'nothing to send'}")
    amiss = counts["rejected"] + counts["invalid"] + counts["no_result"]
    if not amiss:
        rejected.unlink()
        return 0
    typer.echo(f"{amiss} of them are in {rejected}")
    return 1


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
