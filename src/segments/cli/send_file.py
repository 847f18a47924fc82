"""`segments send --file`: sends the commands of a file to Kafka and collects their results."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import orjson
import typer
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from segments.cli import output
from segments.cli.command_file import Line, Lines
from segments.cli.result_consumer import results_from_now
from segments.cli.usage import UsageError
from segments.contracts.topics import COMMANDS_TOPIC
from segments.settings import Settings

COMMANDS_IN_FLIGHT_MAX = 20_000
_DELIVERY_TIMEOUT_MS = 20_000
_RESULTS_AT_ONCE = 5_000
_POLL_S = 0.05


class RejectedFile:
    """File of rejected lines, created with the first of them."""

    def __init__(self, path: Path, source: Path) -> None:
        if not path.parent.is_dir() or path.is_dir():
            raise UsageError(f"rejected lines cannot be written to {path}")
        if path.exists() and path.samefile(source):
            raise UsageError(f"{path} is the file to be sent")
        if path.is_file():
            path.unlink()  # of a previous run
        self.path = path
        self._file: IO[bytes] | None = None

    def write(self, line: Line, **outcome: Any) -> None:
        """`line`, `text`, and either `error`, as in a result, or `detail`."""
        if self._file is None:
            self._file = self.path.open("wb")
        self._file.write(orjson.dumps(line.as_rejected(**outcome)) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class BulkSender:
    """Commands in flight, and counts of the outcomes."""

    def __init__(self, settings: Settings, results: Consumer, rejected: RejectedFile) -> None:
        self._topic = settings.topic(COMMANDS_TOPIC)
        self._producer = Producer(
            settings.client_config()
            | {
                "partitioner": "murmur2",
                "enable.idempotence": True,
                "message.timeout.ms": _DELIVERY_TIMEOUT_MS,
            }
        )
        self._results = results
        self._rejected = rejected
        # An id may occur on several lines, each with a result of its own, in their order.
        self._in_flight: dict[str, deque[Line]] = {}
        self.in_flight = 0
        self.counts: Counter[str] = Counter()

    def produce(self, line: Line) -> None:
        """Send the command of a line."""
        assert line.command is not None
        self._in_flight.setdefault(line.command["id"], deque()).append(line)
        self.in_flight += 1
        while True:
            try:
                self._producer.produce(
                    self._topic, orjson.dumps(line.command), line.key, on_delivery=self._on_delivery
                )
            except BufferError:
                self._producer.poll(_POLL_S)
            else:
                self._producer.poll(0)
                return

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            line = self._pop(orjson.loads(message.value())["id"])
            if line is not None:
                self.reject(line, "not_sent", f"Kafka did not accept it: {error.str()}")

    def _pop(self, command_id: str) -> Line | None:
        """Remove and return the first line in flight with this id."""
        lines = self._in_flight.get(command_id)
        if lines is None:
            return None
        line = lines.popleft()
        self.in_flight -= 1
        if not lines:
            del self._in_flight[command_id]
        return line

    def reject(self, line: Line, status: str, reason: str) -> None:
        """Record a line without a result: invalid, or not sent."""
        self.counts[status] += 1
        self._rejected.write(line, detail=reason)

    def skip(self, line: Line) -> None:
        """Record a line that is no longer sent."""
        if line.command is None:
            self.reject(line, "invalid", line.reason)
        else:
            self.reject(line, "not_sent", "not sent: results of earlier lines did not arrive")

    def gather(self, timeout_s: float) -> int:
        """Consume available results; return how many commands they settled."""
        before = self.in_flight
        self._producer.poll(0)
        for message in self._results.consume(_RESULTS_AT_ONCE, timeout_s):
            if message.error():
                raise KafkaException(message.error())
            line = self._pop((message.key() or b"").decode())
            if line is not None:
                self._settle(line, orjson.loads(message.value() or b"{}"))
        return before - self.in_flight

    def _settle(self, line: Line, result: dict[str, Any]) -> None:
        self.counts[result["status"]] += 1
        if result["status"] == "rejected":
            self._rejected.write(line, error=result["error"])

    def give_up(self) -> None:
        """Record all commands in flight as without a result."""
        for command_id in list(self._in_flight):
            while (line := self._pop(command_id)) is not None:
                self.reject(line, "no_result", "no result in time; it may have been applied")


def send(
    settings: Settings,
    lines: Lines,
    rejected_path: Path,
    timeout_s: float,
    *,
    as_json: bool = False,
) -> int:
    """Send every line and wait for its result; returns the exit status.

    `timeout_s`: longest time without a further result.
    """
    rejected = RejectedFile(rejected_path, lines.path)
    total = lines.count()
    with ExitStack() as stack:
        stack.callback(rejected.close)
        results = results_from_now(settings)
        stack.callback(results.close)
        sender = BulkSender(settings, results, rejected)
        progress = stack.enter_context(output.progress("commands"))
        task = progress.add_task("commands", total=total)

        def gather(in_flight_max: int) -> bool:
            """Consume results until at most this many commands are in flight; False on timeout."""
            last_result_s = time.monotonic()
            while sender.in_flight > in_flight_max:
                if sender.gather(_POLL_S):
                    last_result_s = time.monotonic()
                    progress.update(task, completed=sum(sender.counts.values()))
                elif time.monotonic() - last_result_s > timeout_s:
                    return False
            return True

        commands = lines.commands()
        _send_all(sender, commands, gather)
        if not gather(0):
            sender.give_up()
        for line in commands:
            sender.skip(line)
    return _summarize(sender.counts, total, rejected_path, as_json=as_json)


def _send_all(sender: BulkSender, commands: Iterator[Line], gather: Callable[[int], bool]) -> None:
    """Send line by line; stop when no more results arrive."""
    for line in commands:
        if line.command is None:
            sender.reject(line, "invalid", line.reason)
        else:
            sender.produce(line)
        if sender.in_flight >= COMMANDS_IN_FLIGHT_MAX and not gather(COMMANDS_IN_FLIGHT_MAX // 2):
            return


def _summarize(counts: Counter[str], total: int, rejected: Path, *, as_json: bool) -> int:
    failed = counts["rejected"] + counts["invalid"] + counts["no_result"] + counts["not_sent"]
    if as_json:
        file = str(rejected) if failed else None
        output.document({"lines": total, "outcomes": counts, "rejected_file": file})
        return 1 if failed else 0
    summary = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    typer.echo(f"{total} lines: {summary or 'nothing to send'}")
    if failed:
        typer.echo(f"{failed} failed lines are in {rejected}")
    return 1 if failed else 0
