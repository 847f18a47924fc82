"""`segments doctor` with a broker that requires SASL."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from segments.kafka.embedded import EmbeddedKafka
from segments.process.ports import free_port
from segments.settings import Settings
from segments.settings.environment import variables
from tests.support.secrets import Secrets, Secured, kafka_section
from tests.support.shell import run


def _settings(folder: Path, **kafka: object) -> Settings:
    return Settings(data_dir=folder, kafka=kafka, http={"port": free_port()})


def _kafka(settings: Settings) -> tuple[dict[str, str], str]:
    """(findings about Kafka, complete output)."""
    finished = run("doctor", "--json", "--timeout-s", "10", **variables(settings))
    assert finished.returncode == 1
    checks = orjson.loads(finished.stdout)["checks"]
    [found] = [each for each in checks if each["check"] == "kafka"]
    return found, finished.stdout + finished.stderr


@pytest.mark.parametrize("password", ["wrong-password", None])
def test_rejected_credentials_are_reported(
    guarded_broker: EmbeddedKafka, hushed: Secrets, tmp_path: Path, password: str | None
) -> None:
    right = hushed.all["kafka.password"]
    section = kafka_section(guarded_broker, password or right)
    if password is None:
        section["options"]["sasl.username"] = "nobody"
    found, printed = _kafka(_settings(tmp_path, **section))
    assert found["status"] == "fail"
    assert "SASL authentication failed" in found["seen"]
    assert "kafka.password" in found["todo"]
    assert right not in printed
    assert "wrong-password" not in printed


def test_a_wrong_protocol_is_reported(guarded_broker: EmbeddedKafka, tmp_path: Path) -> None:
    servers = guarded_broker.bootstrap_servers
    found, _ = _kafka(_settings(tmp_path, bootstrap_servers=servers))
    assert found["status"] == "fail"
    assert "security.protocol" in found["todo"], found


def test_secrets_are_not_printed(secured: Secured) -> None:
    finished = run("doctor", "--json", **variables(secured.settings))
    checks = {each["check"]: each for each in orjson.loads(finished.stdout)["checks"]}
    assert checks["kafka"]["status"] == "ok"
    assert checks["sidecar"]["status"] == "ok"
    printed = finished.stdout + finished.stderr
    assert [what for what, text in secured.secrets.all.items() if text in printed] == []
