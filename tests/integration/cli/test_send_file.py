"""`segments send --file` without results, and the parsing of command files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException

from segments.cli import result_consumer, send_file
from segments.cli.command_file import COMMAND_LINE_MAX_BYTES, Lines
from segments.cli.usage import UsageError
from segments.process.ports import free_port
from segments.settings import Settings
from tests.support.records import read

USER = "3f333df6-90a4-4fda-8dd3-9485d27cee36"
CHANGE = json.dumps({"type": "change_memberships", "user_id": USER, "add": ["a"]})


def lines_of(tmp_path: Path, text: bytes, **change: str) -> Lines:
    file = tmp_path / "lines"
    file.write_bytes(text)
    return Lines(file, add=change.get("add"), remove=change.get("remove"))


def rejected(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_sending_stops_when_results_stop_arriving(
    deployment: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(send_file, "COMMANDS_IN_FLIGHT_MAX", 10)
    lines = lines_of(tmp_path, b"\n".join([USER.encode()] * 12 + [b"x", USER.encode()]), add="a")
    target = tmp_path / "rejected"
    assert send_file.send(deployment, lines, target, timeout_s=0.3) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "14 lines: 1 invalid, 10 no_result, 3 not_sent",
        f"14 failed lines are in {target}",
    ]
    assert sorted(line["line"] for line in rejected(target)) == list(range(1, 15))
    assert len(read(deployment, "segments.commands")) == 10


class _NoResults:
    """A consumer that never receives results."""

    def consume(self, _count: int, _timeout_s: float) -> list[Any]:
        return []

    def close(self) -> None:
        pass


def test_undelivered_commands_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unreachable = Settings(
        kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}", "options": {"log_level": "0"}}
    )
    monkeypatch.setattr(send_file, "results_from_now", lambda _: _NoResults())
    monkeypatch.setattr(send_file, "_DELIVERY_TIMEOUT_MS", 200)
    lines = lines_of(tmp_path, f"{CHANGE}\n{CHANGE}\n".encode())
    assert send_file.send(unreachable, lines, tmp_path / "rejected", timeout_s=60) == 1
    assert capsys.readouterr().out.startswith("2 lines: 2 not_sent\n")
    assert ["Kafka" in line["detail"] for line in rejected(tmp_path / "rejected")] == [True, True]
    monkeypatch.setattr(result_consumer, "_TIMEOUT_S", 0.2)
    with pytest.raises(KafkaException):
        result_consumer.results_from_now(unreachable)


def test_missing_topic_raises(deployment: Settings) -> None:
    kafka = deployment.kafka.model_copy(update={"prefix": "nowhere."})
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC"):
        result_consumer.results_from_now(deployment.model_copy(update={"kafka": kafka}))


def test_rejected_file_must_be_writable_and_not_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("kept", "ascii")
    for target in (source, tmp_path, tmp_path / "no-folder" / "file"):
        with pytest.raises(UsageError):
            send_file.RejectedFile(target, source)
    assert source.read_text("ascii") == "kept"
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(UsageError, match="is the file to be sent"):
        send_file.RejectedFile(tmp_path / "link", source)


@pytest.mark.parametrize(
    "change",
    [{"add": ""}, {"add": "not a name"}, {"remove": "../x"}, {"add": "a", "remove": "b"}],
)
def test_invalid_segment_is_rejected_before_sending(tmp_path: Path, change: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        lines_of(tmp_path, b"", **change)


def test_long_line_is_rejected_as_one_line(tmp_path: Path) -> None:
    long = b"x" * (2 * COMMAND_LINE_MAX_BYTES) + USER.encode()
    lines = lines_of(tmp_path, long + b"\n" + USER.encode() + b"\n" + long, add="a")
    found = list(lines.commands())
    assert lines.count() == 3
    assert [(line.number, line.command is None) for line in found] == [
        (1, True),
        (2, False),
        (3, True),
    ]
    exact = CHANGE[:-1] + " " * (COMMAND_LINE_MAX_BYTES - len(CHANGE)) + "}"
    assert len(exact) == COMMAND_LINE_MAX_BYTES
    lines = lines_of(tmp_path, f"{exact}\n{exact} \n{exact}".encode())
    assert [line.command is None for line in lines.commands()] == [False, True, False]


def test_byte_order_marks_crlf_and_empty_lines(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + CHANGE.encode() + b"\r\n\r\n  \n" + CHANGE.encode()
    found = list(lines_of(tmp_path, text).commands())
    assert [line.number for line in found] == [1, 4]
    assert all(line.command is not None and line.key == USER for line in found)
    assert found[0].command is not None
    assert found[1].command is not None
    assert found[0].command["id"] != found[1].command["id"]
    assert list(lines_of(tmp_path, b"\xef\xbb\xbf").commands()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "unexpected"),
        (b"[]", "valid dictionary"),
        (b'{"type": "no"}', "does not match"),
        (b'{"type": "create_segment", "segment": "../x"}', "segment:"),
        (b'{"type": "delete_segment", "segment": "a", "more": 1}', "more:"),
        (b"\xff", "utf-8"),
    ],
)
def test_first_validation_error_is_reported(tmp_path: Path, text: bytes, reason: str) -> None:
    [line] = lines_of(tmp_path, text).commands()
    assert line.command is None
    assert reason.lower() in line.reason.lower(), line.reason
    assert not line.reason.startswith(":")
