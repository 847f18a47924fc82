"""The command line, run as a subprocess."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from segments.kafka import topics
from segments.process.ports import free_port
from segments.settings import Settings
from segments.settings.environment import child_environment, variables
from tests.support.deployments import gone, start_command, stop_all, wait_until

CLI = [sys.executable, "-m", "segments.cli"]
USER = "3f333df6-90a4-4fda-8dd3-9485d27cee36"


def _run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments],
        env=child_environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def _settings(**overrides: object) -> Settings:
    return Settings(**overrides)  # type: ignore[arg-type]


def test_settings_round_trip_through_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(
        data_dir=tmp_path,
        instance=3,
        kafka={"options": {"sasl.username": "us=er"}, "password": "p w", "prefix": "x."},
        user_service={"base_url": "http://users", "states": {"ok": "active"}},
        http={"partitions": [1, 2]},
        metrics={"enabled": False},
    )
    for name, value in variables(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_settings_are_printed_without_secrets(tmp_path: Path) -> None:
    settings = _settings(
        data_dir=tmp_path,
        kafka={
            "options": {"sasl.username": "visible", "ssl.key.password": "hidden1"},
            "password": "hidden2",
        },
        user_service={"base_url": "http://me:hidden3@users"},
    )
    shown = _run(settings, "settings").stdout
    assert "hidden" not in shown
    assert "visible" in shown
    assert "SEGMENTS_KAFKA__PASSWORD=*" in shown
    assert f"SEGMENTS_DATA_DIR={tmp_path}" in shown


def test_invalid_setting_is_named() -> None:
    environment = child_environment(Settings()) | {"SEGMENTS_HTTP__PORT": "eighty"}
    finished = subprocess.run(
        [*CLI, "settings"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode == 1
    assert "http.port" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_topics_are_checked_and_applied(deployment: Settings) -> None:
    checked = _run(deployment, "topics", "check", "--json")
    assert checked.returncode == 0
    names = [topic.on_cluster(deployment) for topic in topics.load()]
    assert json.loads(checked.stdout) == {"created": [], "topics": names}
    wider = deployment.model_copy(update={"partitions": 5})
    rejected = _run(wider, "topics", "apply")
    assert rejected.returncode == 1
    assert "4 partitions found, 5 expected" in rejected.stderr
    assert "Traceback" not in rejected.stderr


def test_an_application_refuses_topics_that_differ(deployment: Settings) -> None:
    wider = deployment.model_copy(update={"partitions": 5})
    rejected = _run(wider, "run", "router")
    assert rejected.returncode == 1
    assert "4 partitions found, 5 expected" in rejected.stderr


def test_command_is_sent_unchanged(deployment: Settings) -> None:
    command = {"type": "change_memberships", "user_id": USER, "add": ["a"]}
    finished = _run(deployment, "send", json.dumps(command))
    assert finished.returncode == 0, finished.stderr
    [message] = _read(deployment, "segments.commands")
    assert message == command | {"id": finished.stdout.strip()}


def _read(settings: Settings, topic: str) -> list[dict[str, object]]:
    name = settings.topic(topic)
    consumer = Consumer(settings.client_config() | {"group.id": "test"})
    consumer.assign([TopicPartition(name, p, 0) for p in range(settings.partitions)])
    message = wait_until(lambda: consumer.poll(0.2), what="a record")
    consumer.close()
    return [json.loads(message.value())]


@pytest.mark.parametrize(("status", "exit_status"), [("applied", 0), ("rejected", 1)])
def test_send_waits_for_the_result(deployment: Settings, status: str, exit_status: int) -> None:
    command = {"id": "c-1", "type": "delete_segment", "segment": "a"}
    finished: list[subprocess.CompletedProcess[str]] = []
    sender = threading.Thread(
        target=lambda: finished.append(_run(deployment, "send", "--wait", json.dumps(command)))
    )
    sender.start()
    assert _read(deployment, "segments.commands") == [command]
    producer = Producer(deployment.client_config())
    for command_id in ("another", "c-1"):
        result = {"command_id": command_id, "status": status}
        producer.produce(deployment.topic("segments.results"), json.dumps(result), command_id)
    assert producer.flush(30) == 0
    sender.join(timeout=60)
    [sent] = finished
    assert json.loads(sent.stdout) == {"command_id": "c-1", "status": status}
    assert sent.returncode == exit_status


@pytest.mark.parametrize("command", ["{", "[]", '{"type":"create_segment","segment":"../x"}'])
def test_invalid_command_is_not_sent(command: str) -> None:
    finished = _run(_settings(), "send", command)
    assert finished.returncode == 1
    assert "error:" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.fixture
def reports() -> Iterator[tuple[str, dict[str, int]]]:
    """A sidecar whose reports have three rows; `row_count` is the number in the header."""
    announced = {"row_count": 3}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["month"] == "2999-01":
                self._respond(404, b'{"title": "Not found", "detail": "in the future"}', {})
                return
            url = f"http://127.0.0.1:{self.server.server_port}/{body['month']}"  # type: ignore[attr-defined]
            self._respond(201, json.dumps({"url": url}).encode(), {})

        def do_GET(self) -> None:
            headers = {"Segments-Row-Count": str(announced["row_count"])}
            self._respond(200, b"u;a;add;t\n" * 3, headers)

        def _respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", announced
    server.shutdown()
    thread.join()
    server.server_close()


def test_report_is_written_to_a_file(reports: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    target = tmp_path / "report.csv"
    finished = _run(_settings(), "report", "2026-11", "-o", str(target), "--url", reports[0])
    assert finished.returncode == 0, finished.stderr
    assert target.read_bytes() == b"u;a;add;t\n" * 3


def test_incomplete_report_fails_without_leaving_a_file(
    reports: tuple[str, dict[str, int]], tmp_path: Path
) -> None:
    reports[1]["row_count"] = 4
    target = tmp_path / "report.csv"
    finished = _run(_settings(), "report", "2026-11", "-o", str(target), "--url", reports[0])
    assert finished.returncode == 1
    assert "3 of 4 rows" in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_rejected_report_prints_the_reason(
    reports: tuple[str, dict[str, int]], tmp_path: Path
) -> None:
    finished = _run(_settings(), "report", "2999-01", "--url", reports[0])
    assert finished.returncode == 1
    assert "in the future (404" in finished.stderr


def _local(tmp_path: Path) -> Settings:
    ports = {f"{name}_port": free_port() for name in ("router", "users", "shards", "history")}
    return _settings(
        data_dir=tmp_path / "data",
        partitions=2,
        kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}", "embedded": True},
        http={"port": free_port()},
        metrics=ports,
    )


@pytest.mark.parametrize(
    ("setting", "port"),
    [
        ("SEGMENTS_KAFKA__BOOTSTRAP_SERVERS", lambda s: int(s.kafka.bootstrap_servers[10:])),
        ("SEGMENTS_HTTP__PORT", lambda s: s.http.port),
        ("SEGMENTS_METRICS__USERS_PORT", lambda s: s.metrics.users_port),
    ],
)
def test_up_names_a_port_in_use_before_anything_starts(
    tmp_path: Path, setting: str, port: Callable[[Settings], int]
) -> None:
    settings = _local(tmp_path)
    number = port(settings)
    with socket.create_server(("127.0.0.1", number)):
        finished = _run(settings, "up")
    assert finished.returncode == 1
    assert re.search(rf"port {number} .* in use.* set {setting}", finished.stderr)
    assert not settings.data_dir.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_up_ends_with_all_it_started(tmp_path: Path, number: signal.Signals) -> None:
    settings = _local(tmp_path)
    try:
        process = start_command(settings, "up", [*CLI, "up"])

        def all_started() -> list[psutil.Process]:
            found = psutil.Process(process.pid).children(recursive=True)
            commands = [_command_line(child) for child in found]
            names = ("kafka.Kafka", "run router", "run users", "run history")
            return found if all(any(n in c for c in commands) for n in names) else []

        started = wait_until(all_started, what="every process")
        process.signal(number)
        status = process.wait(60)
        assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        wait_until(
            lambda: all(gone(child.pid) for child in started), what="the exit of all processes"
        )
    finally:
        stop_all(settings.data_dir)


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has exited since it was listed
        return ""
