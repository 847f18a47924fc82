"""The command line under usage errors, an unreachable service, a closed pipe and Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from segments.cli.user import parse_addition
from tests.support.shell import CLI, environment, run

USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["user", "show", "x"], "a user id must be a UUID"),
        (["user", "change", USER], "give --add or --remove"),
        (["user", "change", USER, "--add", "b@x"], "RFC 3339"),
        (["user", "show", USER, "--at", "yesterday"], "RFC 3339"),
        (["segment", "create", "../x"], "a segment name"),
        (["segment", "create", "x", "--percent", "1", "--count", "1"], "not both"),
        (["segment", "create", "x", "--include", "y"], "--percent or --count"),
        (["segment", "create", "x", "--percent", "1", "--ttl", "P"], "ISO 8601"),
        (["segment", "preview"], "--percent or --count"),
        (["send"], "give one command, or --file"),
        (["send", "{}", "--add", "beta"], "need --file"),
        (["segment", "list", "--url", "nonsense"], "not a URL"),
        (["nonsense"], "No such command"),
    ],
)
def test_usage_errors_exit_with_status_2(arguments: list[str], message: str) -> None:
    finished = run(*arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert message in " ".join(finished.stderr.replace("│", "").split())


def test_unreachable_service_is_reported_with_advice() -> None:
    finished = run("user", "show", USER, "--url", NOWHERE)
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith(f"error: no response from {NOWHERE}/v1/users")
    assert "--url" in finished.stderr
    assert len(finished.stderr.splitlines()) == 2


def test_token_is_never_printed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hidden\n")
    for variables in ({"SEGMENTS_TOKEN": "hidden"}, {"SEGMENTS_TOKEN_FILE": str(file)}):
        finished = run("user", "show", USER, "--url", NOWHERE, **variables)
        assert "hidden" not in finished.stdout + finished.stderr
        assert "hidden" not in run("user", "show", "--help", **variables).stdout
    missing = run("user", "show", USER, "--url", NOWHERE, "--token-file", str(tmp_path / "no"))
    assert missing.returncode == 1
    assert "cannot read the token" in missing.stderr


@pytest.mark.parametrize(
    ("text", "segment", "ttl", "expires_at"),
    [
        ("beta", "beta", None, None),
        ("beta:P7D", "beta", "P7D", None),
        ("a:b", "a:b", None, None),
        ("a:b:PT90S", "a:b", "PT90S", None),
        ("a:Pilot", "a:Pilot", None, None),
        ("a:P7D@P1D", "a:P7D", "P1D", None),
        ("beta@2030-01-01T00:00:00Z", "beta", None, "2030-01-01T00:00:00Z"),
    ],
)
def test_addition_is_parsed_with_its_expiry(
    text: str, segment: str, ttl: str | None, expires_at: str | None
) -> None:
    addition = parse_addition(text)
    assert (addition.segment, addition.ttl, addition.expires_at) == (segment, ttl, expires_at)


MEMBER = b'{"user_id":"%s","since":"2026-11-24T22:17:45.625Z","expires_at":null,"origin":"auto"}\n'


class _Endless(BaseHTTPRequestHandler):
    """A list of members that never ends; `started` is set on the first request."""

    started = Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.started.set()
        # Write until the command that reads exits.
        try:
            while True:
                self.wfile.write(MEMBER % USER.encode() * 500)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def endless() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("as_json", [True, False])
def test_a_closed_pipe_ends_the_command_quietly(endless: str, as_json: bool) -> None:
    argv = [*CLI, "segment", "members", "a", "--url", endless, *(["--json"] if as_json else [])]
    process = subprocess.Popen(
        argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_the_command_quietly(endless: str) -> None:
    _Endless.started.clear()
    process = subprocess.Popen(
        [*CLI, "segment", "members", "a", "--url", endless],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert _Endless.started.wait(60)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == b""
