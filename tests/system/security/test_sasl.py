"""Processing through a broker that requires SASL PLAIN, with valid and invalid credentials."""

from __future__ import annotations

import stat
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from segments.kafka.access import Credentials, KafkaError, admin_client, credentials_of
from segments.kafka.embedded import EmbeddedKafka
from segments.settings import Settings
from segments.settings.environment import child_environment
from tests.support.deployments import wait_until
from tests.support.secrets import USER, Secrets, Secured, kafka_section

SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": USER}


def settings_of(folder: Path, **kafka: Any) -> Settings:
    return Settings(data_dir=folder, kafka=kafka)


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segments.cli", *arguments],
        env=child_environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_command_is_processed_with_sasl(secured: Secured) -> None:
    client, user_id = secured.client, str(uuid.uuid4())
    assert client.post("/v1/segments", json={"segment": "sasl"}).status_code == 201
    path = f"/v1/users/{user_id}/segments"
    changed = client.patch(path, json={"add": ["sasl"]})
    assert (changed.status_code, changed.json()["status"]) == (200, "applied"), changed.text
    assert [held["segment"] for held in client.get(path).json()["segments"]] == ["sasl"]

    def rows() -> Any:
        return client.get(f"/v1/users/{user_id}/history").json()["items"]

    [row] = wait_until(rows, what="the history row")
    assert (row["segment"], row["operation"], row["actor"]) == ("sasl", "add", "ann")
    wait_until(lambda: secured.service.calls.get(user_id), what="a fetch of the user's state")


@pytest.mark.parametrize("application", ["router", "http"])
def test_no_application_starts_with_a_wrong_password(
    application: str, guarded_broker: EmbeddedKafka, hushed: Secrets, tmp_path: Path
) -> None:
    wrong = hushed.new("a wrong password")
    settings = settings_of(tmp_path, **kafka_section(guarded_broker, wrong))
    refused = run(settings, "run", application)
    assert refused.returncode == 1
    assert "refused the connection" in refused.stderr
    assert "Check kafka.options" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert wrong not in refused.stderr + refused.stdout


def test_unauthenticated_connections_are_rejected(
    guarded_broker: EmbeddedKafka, tmp_path: Path
) -> None:
    at = guarded_broker.bootstrap_servers
    wrong_user = settings_of(
        tmp_path, bootstrap_servers=at, password="secret", options=SASL | {"sasl.username": "x"}
    )
    with pytest.raises(KafkaError, match="refused the connection"):
        admin_client(wrong_user, timeout_s=20)
    plaintext = settings_of(tmp_path, bootstrap_servers=at)
    with pytest.raises(KafkaError, match=r"security\.protocol"):
        admin_client(plaintext, timeout_s=1)


def test_files_with_credentials_are_private(guarded_broker: EmbeddedKafka, hushed: Secrets) -> None:
    folder, password = guarded_broker.log_file.parent, hushed.all["kafka.password"]
    holding = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".index", ".timeindex")
        if password.encode() in path.read_bytes()
    ]
    assert {path.suffix for path in holding} == {".properties"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}


def test_the_broker_requires_the_credentials_of_the_clients(tmp_path: Path) -> None:
    credentials = credentials_of(settings_of(tmp_path, options=SASL, password="p"))
    assert credentials == Credentials(USER, "p")
    assert repr(credentials) == f"Credentials('{USER}', **********)"
    assert credentials_of(settings_of(tmp_path)) is None
    assert credentials_of(settings_of(tmp_path, options={"security.protocol": "plaintext"})) is None
    Producer(credentials.of_client())


@pytest.mark.parametrize(
    ("options", "password", "said"),
    [
        (SASL | {"security.protocol": "SASL_SSL"}, "p", "select SASL_SSL PLAIN"),
        (SASL | {"sasl.mechanism": "SCRAM-SHA-256"}, "p", "SCRAM-SHA-256"),
        (SASL | {"sasl.username": 'a" b'}, "p", "sasl.username"),
        (SASL, None, "kafka.password"),
        (SASL, "line\nbreak", "kafka.password"),
    ],
)
def test_unsupported_sasl_settings_are_reported(
    options: dict[str, str], password: str | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(KafkaError, match=said):
        credentials_of(settings_of(tmp_path, options=options, password=password))


def test_any_password_is_escaped_for_java() -> None:
    """Twice: quoted for JAAS, then escaped for a properties file."""
    line = Credentials("u", 'a"b\\c é😀').of_broker("clients").splitlines()[-1]
    name, _, value = line.partition("=")
    assert name == "listener.name.clients.plain.sasl.jaas.config"
    assert 'password="a\\\\"b\\\\\\\\c \\u00e9\\ud83d\\ude00"' in value
    assert value.isascii()
