"""Fixtures of tests against a real broker."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segments.kafka.embedded import EmbeddedKafka
from segments.settings import Settings
from tests.support import deployments
from tests.support.api import Api, Deployment

FIRST_TIMEOUT_S = 300
_UNIT = Path(__file__).with_name("unit")
_LONGEST = (
    "system/crash/test_crash.py",
    "system/crash/test_several_processes.py",
    "system/crash/test_transactions.py",
    "system/http/test_fuzzing.py",
    "system/crash/test_assignment.py",
    "integration/kafka/test_embedded.py",
    "integration/cli/test_commands.py",
    "integration/streams/users/test_users.py",
    "integration/destinations/test_faults.py",
    "integration/streams/test_restore.py",
    "system/test_published_records.py",
    "integration/streams/test_router.py",
    "integration/streams/test_maintenance.py",
    "system/docs/test_commands.py",
    "integration/streams/test_quix_transactions.py",
    "integration/streams/test_history.py",
    "system/telemetry/test_scrapes.py",
    "unit/state/machine/test_volume.py",
)
"""The slowest files, the slowest first, so that none of them is left to one worker at the end."""
_DEPLOYMENTS = 2
"""Number of deployments that the tests with a shared deployment are spread over."""
_shared_broker = pytest.StashKey[EmbeddedKafka]()

# Brokers of tests live for seconds to minutes: the JVM's optimizing compiler costs them more
# processor time than it saves (measured: 3.5 instead of 5.8 s for a start and 6 s of life).
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# A shell that runs the tests in the background makes them ignore SIGINT, and so every process they
# start: Ctrl-C is part of what is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Start one broker for the workers of pytest-xdist, unless only unit tests run."""
    paths = [Path(argument.partition("::")[0]).resolve() for argument in node.config.args]
    if all(path.is_relative_to(_UNIT) for path in paths):
        return
    kafka = node.config.stash.get(_shared_broker, None)
    if kafka is None:
        # The broker exits with the thread that starts it: this one lives as long as the run.
        kafka = EmbeddedKafka(Path(tempfile.mkdtemp(prefix="segments-tests-")))
        kafka.start()
        node.config.stash[_shared_broker] = kafka
    node.workerinput["bootstrap_servers"] = kafka.bootstrap_servers


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the broker of the workers."""
    kafka = config.stash.get(_shared_broker, None)
    if kafka is not None:
        kafka.kill()
        shutil.rmtree(kafka.log_file.parents[1], ignore_errors=True)


@pytest.fixture(scope="session")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Bootstrap servers of an embedded Kafka that all tests share."""
    shared = getattr(request.config, "workerinput", {}).get("bootstrap_servers")
    if shared is not None:
        yield shared
        return
    kafka = EmbeddedKafka(tmp_path_factory.mktemp("broker"))
    kafka.start()
    try:
        yield kafka.bootstrap_servers
    finally:
        kafka.kill()


@pytest.fixture
def deployment(broker: str, tmp_path: Path) -> Iterator[Settings]:
    """A new deployment on the shared broker with its topics; no process is started."""
    with deployments.deployment(broker, tmp_path / "data") as settings:
        yield settings


@pytest.fixture(scope="session")
def running(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The shared deployment with all applications; each test uses its own users and segments."""
    folder = tmp_path_factory.mktemp("running") / "data"
    with deployments.deployment(
        broker,
        folder,
        dev={"enabled": True},
        http={"ready_lag_ms": 2_500},
    ) as settings:
        deployment = Deployment(settings)
        deployment.start("router", "users", "shards", "history", "http")
        deployment.wait_until_ready()
        yield deployment
        deployment.api.close()


@pytest.fixture
def api(running: Deployment) -> Api:
    """A client of the shared deployment."""
    return running.api


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group the tests for pytest-xdist's loadgroup, the longest first.

    A file is a group; files that share the running deployment are a few groups, each with a
    deployment of its own. Whichever test comes first also waits for a deployment to start.
    """
    del config
    root = Path(__file__).parent
    order = {name: number for number, name in enumerate(_LONGEST)}
    sharing: dict[str, str] = {}
    for item in items:
        name = item.path.relative_to(root).as_posix()
        group = name
        if "running" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(FIRST_TIMEOUT_S))
            group = sharing.setdefault(
                name, f"deployment {zlib.crc32(name.encode()) % _DEPLOYMENTS}"
            )
        elif name.startswith("system/security/"):
            group = "security"
        item.add_marker(pytest.mark.xdist_group(group))

    def rank(item: pytest.Item) -> float:
        if "running" in getattr(item, "fixturenames", ()):
            return 2.5
        return order.get(item.path.relative_to(root).as_posix(), len(order))

    items.sort(key=rank)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Add the logs of its processes to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined] # a hook wrapper's Result
    if report.failed:
        for process in deployments.processes():
            report.sections.append((f"log of {process.name}", process.log()))
