"""The curl commands of the documents print the documented output on a running service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from segments.contracts.times import to_rfc3339
from tests.support import deployments
from tests.support.docs import generated, reading
from tests.support.paths import ROOT

USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
PAST = "2026-11-24T22:17:30Z"
APPLICATIONS = ("router", "users", "shards", "history", "http")
_STATUS_LINE = re.compile(r"^HTTP/1\.1 (\d{3})", re.MULTILINE)
_STATUS_FIELD = re.compile(r'"status":(\d{3})')


@pytest.fixture
def base_url(broker: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a deployment like the demo's, with the examples' user and segments."""
    archive = tmp_path / "archive"
    archive.mkdir()
    reports = {"destinations": {"archive": {"kind": "folder", "path": str(archive)}}}
    with deployments.deployment(
        broker, tmp_path / "data", dev={"enabled": True}, reports=reports
    ) as settings:
        for application in APPLICATIONS:
            deployments.start(settings, application)
        url = f"http://127.0.0.1:{settings.http.port}"
        deployments.wait_until(lambda: _ready(url), 90, "readiness")
        with httpx.Client(base_url=url, headers={"Prefer": "wait=30"}, timeout=60) as client:
            _prepare(client)
        yield url


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def _prepare(client: httpx.Client) -> None:
    for segment in ("newsletter", "beta", "trial"):
        created = client.post("/v1/segments", json={"segment": segment})
        assert created.status_code == 201, created.text
    assert client.put(f"/dev/users/{USER}", json={"state": "active"}).status_code == 200
    added = client.patch(f"/v1/users/{USER}/segments", json={"add": ["newsletter"]})
    assert added.status_code == 200, added.text


def _run(commands: str, log: Path) -> str:
    """The output of a document's commands; the status of every request goes to the log."""
    shim = f'curl() {{ "{sys.executable}" "{ROOT / "tests/support/docs/curl.py"}" "$@"; }}\n'
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shim + commands],
        env=os.environ | {"CURL_LOG": str(log)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def _examples(document: str, base_url: str) -> Iterator[tuple[str, str]]:
    """(commands, expected output) of each example; variables of earlier examples stay set."""
    text = reading.read(document).replace("http://127.0.0.1:8080", base_url)
    # The examples' past time is before this deployment: use the current time instead.
    text = text.replace(f"at={PAST}", f"at={to_rfc3339(time.time_ns() // 1_000_000)}")
    blocks = reading.blocks(text)
    variables = ""
    for block, below in zip(blocks, [*blocks[1:], reading.Block("", "")], strict=True):
        if block.info != "sh" or "kcat" in block.text:
            continue
        variables += "".join(re.findall(r"^[A-Z]+=.*\n", block.text, re.MULTILINE))
        if "curl" in block.text:
            yield variables + block.text, below.text if below.info == "text" else ""


def _field_names(text: str) -> set[str]:
    return set(re.findall(r'"([a-z_]+)":', text))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", ["README.md", "docs/http.md"])
def test_every_curl_command_prints_the_documented_output(
    document: str, base_url: str, tmp_path: Path
) -> None:
    examples = list(_examples(document, base_url))
    assert len(examples) >= 4
    for number, (commands, below) in enumerate(examples):
        log = tmp_path / f"{number}.log"
        printed = _run(commands, log)
        requests = log.read_text(encoding="utf-8").splitlines()
        expected_failures = {int(status) for status in _STATUS_FIELD.findall(below)}
        for request in requests:
            status = int(request.split()[0])
            assert status < 300 or status in expected_failures, f"{request}\n{printed}"
        assert _STATUS_LINE.findall(below) == [] or _STATUS_LINE.findall(printed)[:1] == (
            _STATUS_LINE.findall(below)
        )
        missing = _field_names(below) - _field_names(printed)
        assert missing == set(), f"{commands}\n{printed}"


@pytest.mark.parametrize("arguments", ["topics table", "topics diagram", "settings --tables"])
def test_commands_print_exactly_the_published_documents(arguments: str) -> None:
    argv = [sys.executable, "-m", "segments.cli", *arguments.split()]
    finished = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert finished.stdout in {make() for make in generated.UNMARKED}
    assert finished.stderr == ""
