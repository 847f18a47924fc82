"""Shell completion: the scripts, and segment names from the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import orjson
import pytest

from segments.cli import completion
from tests.support.shell import run

USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
SCRIPTS = {
    "bash": "complete -o default -F _segments_completion segments",
    "zsh": "compdef _segments_completion segments",
    "fish": "complete --command segments",
}


class _Names(BaseHTTPRequestHandler):
    """Lists three segments if the token is right; does not respond while `hangs` is set."""

    hangs = Event()
    released = Event()

    def do_GET(self) -> None:
        if self.hangs.is_set():
            self.released.wait(60)
            return
        allowed = self.headers.get("Authorization") == "Bearer t"
        items = [_segment(name) for name in ("alpha", "beta", "beta-2")] if allowed else []
        body = orjson.dumps({"items": items, "next": None})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def _segment(name: str) -> dict[str, object]:
    return {
        "segment": name,
        "generation": 1,
        "version": 1,
        "state": "active",
        "description": None,
        "created_at": "2026-11-24T22:17:45.625Z",
        "auto": None,
        "position": "0:1",
        "size": 0,
    }


@pytest.fixture
def names() -> Iterator[str]:
    """A service that lists segments."""
    _Names.hangs.clear()
    _Names.released.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Names)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    _Names.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def _complete(typed: str, url: str, **variables: str) -> str:
    finished = run(
        SEGMENTS_URL=url,
        _SEGMENTS_COMPLETE="complete_zsh",
        _TYPER_COMPLETE_ARGS=f"segments {typed}",
        **variables,
    )
    assert finished.stderr == ""
    return finished.stdout


@pytest.mark.parametrize("shell", SCRIPTS)
def test_completion_script_for_each_shell(shell: str) -> None:
    finished = run(_SEGMENTS_COMPLETE=f"source_{shell}")
    assert SCRIPTS[shell] in finished.stdout
    assert f"complete_{shell}" in finished.stdout
    assert finished.stderr == ""
    assert {"--install-completion", "--show-completion"} <= set(run("--help").stdout.split())


def test_commands_are_completed_without_the_service() -> None:
    assert '"members"' in _complete("segment mem", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "typed",
    [
        "segment show b",
        "segment delete b",
        f"user change {USER} --add b",
        "segment create x --include b",
    ],
)
def test_names_come_from_the_service(names: str, typed: str) -> None:
    suggested = _complete(typed, names, SEGMENTS_TOKEN="t")
    assert '"beta"' in suggested
    assert '"beta-2"' in suggested
    assert "alpha" not in suggested


def test_nothing_is_suggested_without_service_or_token(names: str) -> None:
    for url in (names, "http://127.0.0.1:1", "nonsense"):
        assert "beta" not in _complete("segment show b", url)


def test_completion_does_not_wait_for_a_hanging_service(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "COMPLETION_TIMEOUT_S", 0.1)
    _Names.hangs.set()
    started_s = time.monotonic()
    assert "beta" not in _complete("segment show b", names, SEGMENTS_TOKEN="t")
    # The service would respond after a minute.
    assert time.monotonic() - started_s < 30
