"""The examples, run as separate programs against a running deployment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import deployments
from tests.support.api import Deployment
from tests.support.docs import reading
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
TIMEOUT_S = 120
INSTALL_TIMEOUT_S = 90
Program = Callable[..., list[str]]
"""(name of the program without extension, arguments) -> command line."""


def python(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / "python" / f"{name}.py"), *arguments]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The Node.js examples with their packages, in a temporary folder."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        pytest.skip("node and npm are not on this machine")
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    try:
        installed = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm ci did not finish within {INSTALL_TIMEOUT_S} s: is a registry reachable?")
    if installed.returncode != 0:
        pytest.skip(f"npm ci failed: {installed.stderr.strip()[-300:]}")

    def program(name: str, *arguments: str) -> list[str]:
        return [found, str(folder / f"{name.replace('_', '-')}.mjs"), *arguments]

    return program


@pytest.fixture(params=["python", "node"])
def language(request: pytest.FixtureRequest) -> Program:
    """Each language with examples."""
    if request.param == "python":
        return python
    program: Program = request.getfixturevalue("node")
    return program


@pytest.fixture
def environment(running: Deployment) -> dict[str, str]:
    """The environment variables that configure an example."""
    kafka = running.settings.kafka
    return {
        "PATH": os.environ["PATH"],
        "KAFKA_BROKERS": kafka.bootstrap_servers,
        "TOPIC_PREFIX": kafka.prefix,
        "GROUP": f"example-{uuid.uuid4().hex}",
        "KAFKAJS_NO_PARTITIONER_WARNING": "1",
    }


@pytest.fixture
def followed(
    language: Program, environment: dict[str, str], running: Deployment, tmp_path: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """A user, and the example that writes the user's history to a file."""
    user = running.api.user()
    output = tmp_path / "history"
    with output.open("wb") as file:
        process = subprocess.Popen(
            language("follow_history", user), env=environment, stdout=file, stderr=file
        )
        try:
            yield user, process, output
        finally:
            process.kill()
            process.wait()


def test_examples_send_commands_and_follow_history(
    language: Program,
    environment: dict[str, str],
    running: Deployment,
    followed: tuple[str, subprocess.Popen[bytes], Path],
) -> None:
    user, follower, output = followed
    sent = subprocess.run(
        language("send_commands", user),
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    results = [json.loads(line) for line in sent.stdout.splitlines()]
    assert [result["status"] for result in results] == ["applied"] * 3, results
    [change] = [result for result in results if result["changes"]]
    segment = change["changes"][0]["segment"]
    # The example reads the results themselves: the sidecar's view may be behind them.
    deployments.wait_until(
        lambda: segment in running.api.segments_of(user), TIMEOUT_S, what="the segment in the view"
    )

    def half() -> httpx.Response | None:
        response = running.api.get(f"/v1/segments/{segment}-half")
        return response if response.status_code == 200 else None

    found = deployments.wait_until(half, TIMEOUT_S, what="the half in the view").json()
    assert found["auto"]["percent"] == 50

    def history_line() -> list[str]:
        lines = [line.split(" ") for line in output.read_text().splitlines()]
        # A rule with newcomers, also of another test, may have added the user to a segment before.
        return next((line for line in lines if line[4:5] == [segment]), [])

    line = deployments.wait_until(history_line, TIMEOUT_S, what="the change in the history")
    assert line[2:] == [user, "add", segment, "command"]

    def stored() -> list[list[str]]:
        rows = running.api.history(user).json()["items"]
        return [[row["id"], row["at"]] for row in rows]

    deployments.wait_until(lambda: line[:2] in stored(), TIMEOUT_S, what="the row in the store")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(TIMEOUT_S) == 0, output.read_text()


def test_example_prints_usage_without_arguments(
    language: Program, environment: dict[str, str]
) -> None:
    finished = subprocess.run(
        language("send_commands"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == 1
    assert "usage: " in finished.stderr


def test_readme_program_sends_its_command(
    node: Program, environment: dict[str, str], running: Deployment
) -> None:
    user, beta, newsletter = running.api.user(), running.api.segment(), running.api.segment()
    [program] = [
        block.text for block in reading.blocks(reading.read("README.md")) if block.info == "js"
    ]
    for old, new in (
        ("127.0.0.1:19092", environment["KAFKA_BROKERS"]),
        ("'segments.commands'", f"'{environment['TOPIC_PREFIX']}segments.commands'"),
        ("cd613e30-d8f1-4adf-91b7-584a2265b1f5", user),
        ("'beta'", f"'{beta}'"),
        ("'trial'", f"'{running.api.segment()}'"),
        ("'newsletter'", f"'{newsletter}'"),
    ):
        assert old in program
        program = program.replace(old, new)
    [_, script] = node("send")
    Path(script).write_text(program, encoding="utf-8")
    sent = subprocess.run(
        node("send"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    path = f"/v1/commands/{sent.stdout.strip()}"
    deployments.wait_until(
        lambda: running.api.get(path).json().get("status") == "applied",
        TIMEOUT_S,
        what="its result",
    )
    deployments.wait_until(
        lambda: beta in running.api.segments_of(user), TIMEOUT_S, what="the segment in the view"
    )


def test_package_lock_has_hashes_and_no_registry_urls() -> None:
    lock = json.loads((EXAMPLES / "node" / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert {"node_modules/kafkajs", "node_modules/lz4js"} <= packages.keys()
    for entry in packages.values():
        assert "resolved" not in entry
        assert entry["integrity"].startswith("sha512-")


def test_python_examples_do_not_import_the_project() -> None:
    for path in (EXAMPLES / "python").glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        imported = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
        assert imported <= {"json", "os", "sys", "time", "uuid", "confluent_kafka"}
