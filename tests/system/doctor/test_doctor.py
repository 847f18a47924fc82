"""`segments doctor` on a healthy deployment and on broken ones."""

from __future__ import annotations

import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from segments import doctor
from segments.client import Health
from segments.doctor import clocks, groups, kafka, machine, service, users, versions
from segments.doctor.findings import Finding, ok
from segments.process.ports import free_port
from segments.settings import Settings
from segments.settings.environment import variables
from tests.support.api import Deployment
from tests.support.deployments import wait_until
from tests.support.shell import run


class Usage(NamedTuple):
    """The result of shutil.disk_usage."""

    total: int
    used: int
    free: int


def _examined(settings: Settings, *options: str) -> tuple[int, dict[str, Any]]:
    """(exit status, the document) of the command with these settings."""
    finished = run("doctor", "--json", *options, **variables(settings))
    assert finished.stderr == ""
    document: dict[str, Any] = orjson.loads(finished.stdout)
    return finished.returncode, document


def _by_check(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {each["check"]: each for each in document["checks"]}


def test_a_healthy_deployment_has_no_failures(running: Deployment) -> None:
    def well() -> dict[str, Any]:
        status, document = _examined(running.settings)
        assert status == 0, document
        return document

    # A sidecar that is busy with other tests may be behind for a moment.
    found = _by_check(wait_until(well, what="health"))
    assert {name for name, each in found.items() if each["status"] == "ok"} >= {
        "python",
        "quixstreams",
        "kafka client",
        "kafka",
        "topics",
        "broker API",
        "router",
        "users",
        "shards",
        "history",
        "clock of the broker",
        "clock of the sidecar",
        "data_dir",
        "disk",
        "sidecar",
        "view",
        "partitions",
    }
    assert found["user service"]["status"] == "warn"
    assert "transactions" in found["broker API"]["seen"]
    result = run("doctor", **variables(running.settings))
    assert result.returncode == 0
    assert "0 fail" in result.stdout


def test_missing_or_different_topics_fail(running: Deployment) -> None:
    settings = running.settings
    status, document = _examined(settings.model_copy(update={"partitions": 5}))
    assert status == 1
    faults = [each for each in document["checks"] if each["check"] == "topics"]
    assert all("4 partitions found, 5 expected" in each["seen"] for each in faults)
    assert _by_check(document)["partitions"]["status"] == "warn"

    section = settings.kafka.model_copy(update={"prefix": "elsewhere."})
    status, document = _examined(settings.model_copy(update={"kafka": section}))
    found = _by_check(document)
    assert status == 1
    assert found["topics"]["seen"].endswith(": missing")
    assert found["topics"]["todo"] == "segments topics apply"
    assert found["sidecar"]["status"] == "ok"
    # To look must not make them.
    there = AdminClient(settings.client_config()).list_topics(timeout=30).topics
    assert [name for name in there if name.startswith("elsewhere.")] == []


def test_unreachable_services_do_not_block_other_checks(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "data",
        kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}", "password": "hidden"},
        http={"port": free_port()},
        user_service={"base_url": f"http://me:hidden@127.0.0.1:{free_port()}"},
    )
    status, document = _examined(settings, "--timeout-s", "1")
    found = _by_check(document)
    assert status == 1
    assert document["status"] == "fail"
    assert {name for name, each in found.items() if each["status"] == "fail"} == {
        "kafka",
        "sidecar",
        "user service",
    }
    assert all(found[name]["seen"] == "skipped: Kafka is not usable" for name in doctor.WITH_KAFKA)
    assert found["data_dir"]["status"] == "ok"
    assert "hidden" not in str(document)


def test_a_hanging_or_failing_check_is_reported_and_the_others_continue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = threading.Event()

    def hangs(_settings: Settings, _timeout_s: float) -> list[Finding]:
        never.wait()
        return []

    def breaks(_settings: Settings, _timeout_s: float) -> list[Finding]:
        raise RuntimeError("of\nits own")

    alone = {"hangs": hangs, "breaks": breaks, "goes on": lambda *_: [ok("goes on", "fine")]}
    monkeypatch.setattr(doctor, "INDEPENDENT", alone)
    monkeypatch.setattr(doctor, "WITH_KAFKA", {})
    monkeypatch.setattr(kafka, "look", lambda *_: [ok("kafka", "fine")])
    found = {each.check: each for each in doctor.examine(Settings(), 1)}
    never.set()
    assert found["hangs"].seen == "timed out"
    assert found["breaks"].seen == "the check itself failed: of its own"
    assert found["goes on"].status == "ok"


def test_too_little_disk_space_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, 1 << 20))
    found = {each.check: each for each in machine.look_at_folder(Settings(data_dir=tmp_path), 1)}
    assert found["disk"].status == "fail"
    assert found["disk"].seen.startswith("1 MiB free")


@pytest.mark.parametrize(
    ("finding", "status"),
    [
        (machine.disk(2 << 30, 1 << 30), "ok"),
        (machine.disk(2 << 30, 3 << 30), "warn"),
        (machine.disk(1 << 20, 0), "fail"),
        (machine.inodes(90, 100), "ok"),
        (machine.inodes(4_000, 100_000), "warn"),
        (machine.inodes(1, 100_000), "fail"),
        (machine.inodes(0, 0), "ok"),
        (machine.open_files(4_096, 4_096), "ok"),
        (machine.open_files(-1, -1), "ok"),
        (machine.open_files(256, 4_096), "warn"),
        (groups.finding("shards", 1, 4), "ok"),
        (groups.finding("shards", 1, 1_000_000), "warn"),
        (groups.finding("shards", 0, 0), "fail"),
        (clocks.finding(900, 1_000), "ok"),
        (clocks.finding(-1_000, 1_000), "warn"),
        (clocks.finding(-100_000, 1_000), "fail"),
        (clocks.finding(20_000, 1_000), "warn"),
        (clocks.finding(None, 1_000), "warn"),
        (versions.python((3, 12)), "ok"),
        (versions.python((3, 14)), "warn"),
        (versions.stream_processor("3.28.1", "3.28.1"), "ok"),
        (versions.stream_processor("3.29.0", "3.28.1"), "fail"),
        (versions.stream_processor(None, "3.28.1"), "fail"),
        (users.finding("http://users", 404), "ok"),
        (users.finding("http://users", 401), "fail"),
        (users.finding("http://users", 503), "warn"),
        (users.finding("http://users", 302), "fail"),
        (kafka.api_finding([], None), "ok"),
        (kafka.api_finding(["0b" * 16], None), "ok"),
        (kafka.api_finding(["0b" * 16, "0" * 32], None), "fail"),
        (kafka.api_finding([], KafkaError(KafkaError._UNSUPPORTED_FEATURE)), "fail"),
        (kafka.api_finding([], KafkaError(KafkaError._TIMED_OUT)), "fail"),
        (
            kafka.api_finding([], KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)),
            "fail",
        ),
    ],
)
def test_each_finding_has_a_status_and_a_remedy(finding: Finding, status: str) -> None:
    assert finding.status == status
    assert bool(finding.todo) == (status != "ok")


AT_S = 1_800_000_000.0


@pytest.mark.parametrize(
    ("local_s", "status"),
    [(0.0, "ok"), (0.9, "ok"), (2.5, "ok"), (4.0, "warn"), (-4.0, "warn"), (100.0, "fail")],
)
def test_rounding_of_the_date_header_is_no_clock_difference(local_s: float, status: str) -> None:
    server_time = datetime.fromtimestamp(AT_S, UTC)
    found = service.clock(server_time, AT_S + local_s - 0.1, AT_S + local_s)
    assert found.status == status


@pytest.mark.parametrize(
    ("partitions", "status"), [({0, 1}, "ok"), ({0}, "warn"), ({0, 1, 2}, "fail")]
)
def test_a_sidecar_with_other_settings_is_reported(partitions: set[int], status: str) -> None:
    each = {"position": "0:1", "staleness_ms": 7}
    health = Health.model_validate(
        {"ready": True, "partitions": {str(number): each for number in partitions}}
    )
    assert service.agreement(health, Settings(partitions=2)).status == status


def test_a_view_that_is_not_ready_says_why() -> None:
    health = Health(ready=False, checks={"feed": "the consumer has ended", "view": "ok"})
    found = service.view(health)
    assert found.status == "fail"
    assert found.seen == "not ready, no partition: feed: the consumer has ended"


@pytest.mark.parametrize(
    ("code", "text", "listening", "todo"),
    [
        (KafkaError._AUTHENTICATION, "SASL PLAIN", True, "kafka.password"),
        (KafkaError._SSL, "certificate verify failed", True, "ssl.ca.location"),
        (KafkaError._RESOLVE, "Failed to resolve", False, "kafka.bootstrap_servers"),
        (KafkaError._TRANSPORT, "Disconnected", True, "security.protocol"),
        (KafkaError._TRANSPORT, "Connection refused", False, "kafka.bootstrap_servers"),
    ],
)
def test_causes_of_a_failed_connection_are_distinguished(
    code: int, text: str, listening: bool, todo: str
) -> None:
    general = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
    found = kafka.unreachable("broker:9092", [general, KafkaError(code, text)], listening=listening)
    assert found.status == "fail"
    assert text in found.seen
    assert todo in found.todo


def test_a_closed_port_or_a_malformed_address_is_not_listening() -> None:
    assert not kafka.is_listening(f"127.0.0.1:{free_port()},nonsense", 1)


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    # Whoever runs the tests may write everywhere; nobody can make a file in a file.
    assert machine.writable(file, file).status == "fail"
    assert machine.writable(tmp_path, tmp_path).status == "ok"
    assert machine.writable(tmp_path / "new", tmp_path).seen.endswith(
        f"can be created in {tmp_path}"
    )
    (tmp_path / "kept").write_bytes(b"x" * 8_192)
    assert machine.used_bytes(tmp_path) >= 8_192


@pytest.mark.parametrize(
    ("owner", "ours", "status"),
    [
        (1_000, 1_000, "ok"),
        (0, 0, "ok"),
        (0, 10_001, "ok"),  # a volume in Kubernetes, by its group
        (1_000, 0, "warn"),
        (1_000, 1_001, "warn"),
    ],
)
def test_a_folder_of_another_user_is_reported(owner: int, ours: int, status: str) -> None:
    assert machine.owned(Path("data"), owner, ours).status == status
