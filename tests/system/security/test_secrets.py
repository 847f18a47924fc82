"""Provokes output of every kind in a deployment full of secrets and searches it for them."""

from __future__ import annotations

import socket
import subprocess
import sys
import uuid
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from segments.kafka import topics
from segments.settings import Settings, UserServiceSettings
from segments.settings.environment import child_environment
from segments.streams.refresh.user_service import FetchError, UserServiceClient
from tests.support import deployments, records
from tests.support.deployments import wait_until
from tests.support.leaky_user_service import LeakyUserService
from tests.support.secrets import Secured

JSON = {"Content-Type": "application/json"}
FAULTS = ("redirect", "error", "garbage", "state")


class Captured:
    """All output, by its origin."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, where: str, text: str | bytes) -> None:
        decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        self.texts[where] = self.texts.get(where, "") + decoded

    def add_response(self, where: str, response: httpx.Response) -> httpx.Response:
        self.add(where, f"{response.status_code} {dict(response.headers)} {response.text}\n")
        return response

    def leaks(self, secrets: dict[str, str]) -> list[str]:
        return [
            f"{purpose} in {where}"
            for where, text in self.texts.items()
            for purpose, secret in secrets.items()
            if secret in text
        ]


def test_the_search_finds_a_planted_secret() -> None:
    output = Captured()
    output.add("a log", "nothing")
    output.add("a log", b", then hush-1\xff")
    assert output.leaks({"password": "hush-1", "token": "hush-2"}) == ["password in a log"]


def test_settings_are_printed_without_secrets(secured: Secured) -> None:
    settings, output = secured.settings, Captured()
    output.add("repr", repr(settings) + str(settings))
    output.add(
        "repr of sections", "".join(repr(getattr(settings, n)) for n in type(settings).model_fields)
    )
    for arguments in (["settings"], ["settings", "--json"], ["settings", "--tables"]):
        output.add("segments settings", run(settings, *arguments))
    assert output.leaks(secured.secrets.all) == []
    assert "SEGMENTS_KAFKA__PASSWORD=**********" in output.texts["segments settings"]


def test_a_wrong_secret_is_not_repeated(secured: Secured) -> None:
    """The error of an invalid setting does not contain its value."""
    output = Captured()
    for variable in (
        "SEGMENTS_AUTH__LINK_SECRET",
        "SEGMENTS_AUTH__JWT_SECRET",
        "SEGMENTS_REPORTS__DESTINATIONS",
        "SEGMENTS_KAFKA__OPTIONS",
        "SEGMENTS_KAFKA__PASWORD",
        "SEGMENTS_HTTP__PORT",
    ):
        wrong = secured.secrets.new(f"wrong {variable}")[:20]
        secured.secrets.all[f"wrong {variable}"] = wrong
        output.add(variable, run(secured.settings, "settings", **{variable: wrong}))
        assert "error" in output.texts[variable]
    assert output.leaks(secured.secrets.all) == []


def test_no_output_contains_a_secret(secured: Secured) -> None:
    output = Captured()
    provoke_the_user_service(secured)
    provoke_over_http(secured, output)
    provoke_a_report(secured, output)
    provoke_kafka(secured, output)
    output.add_response("/metrics", secured.client.get("/metrics"))
    break_the_shards(secured)
    for process in secured.processes.values():
        output.add("command lines", " ".join(command_line(process)))
    for file in logs(secured):
        output.add(file.name, file.read_bytes())
    assert_it_was_provoked(output)
    assert output.leaks(secured.secrets.all) == []


# --- provocations ---


def provoke_the_user_service(secured: Secured) -> None:
    """The user service echoes its token in every kind of failure."""
    users = {str(uuid.uuid4()): fault for fault in FAULTS}
    secured.service.faults.update(users)
    events = [orjson.dumps({"user_id": user_id}) for user_id in users]
    records.send(secured.settings, "users.events", [*events, b"no event"])
    wait_until(lambda: users.keys() <= secured.service.calls.keys(), what="all fetches")
    token = secured.secrets.all["user_service.token"]
    assert f"Bearer {token}" in secured.service.authorizations


def provoke_over_http(secured: Secured, output: Captured) -> None:
    secrets, client = secured.secrets, secured.client
    forged = secrets.token("mallory", "admin", "another secret that is long enough")
    analyst = secrets.token("bob", "analyst", secrets.all["auth.jwt_secret"])
    opaque = secrets.new("an opaque key")
    for shown in (
        f"Bearer {forged}",
        f"Bearer {analyst}",
        f"Bearer {opaque}",
        f"Basic {opaque}",
        f"{opaque}",
        f"Bearer {opaque} {opaque}",
        f"Bearer {opaque * 300}",
    ):
        headers = {"Authorization": shown}
        for method, path in (
            ("POST", "/v1/segments"),
            ("GET", "/v1/users/nobody/segments"),
            ("GET", "/metrics"),
            ("TRACE", "/v1/segments"),
        ):
            output.add_response(path, client.request(method, path, headers=headers, content=b"{"))
    output.add_response("no JSON", client.post("/v1/segments", content=b"{", headers=JSON))
    link = client.post("/v1/reports", json={"month": "2026-01"}).json()["url"]
    output.add("a link", link)
    output.add_response(
        "a changed link", client.get(link[:-3] + "abc", headers={"Authorization": ""})
    )
    at = ("127.0.0.1", secured.settings.http.port)
    for line in (f"Authorization: Bearer {opaque}\0x", f"Broken {opaque}"):
        with socket.create_connection(at, timeout=20) as raw:
            raw.sendall(f"GET /v1/segments HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n".encode())
            output.add("a broken head", raw.recv(65_536))


def provoke_a_report(secured: Secured, output: Captured) -> None:
    """Deliver a report to a store that rejects it and echoes the request."""
    job = {"month": "2026-01", "destination": "s3"}
    created = output.add_response("a report", secured.client.post("/v1/reports", json=job))
    assert created.status_code == 202
    path = created.headers["location"]

    def ended() -> bool:
        job = output.add_response("a job", secured.client.get(path)).json()
        return job["state"] in ("failed", "done")

    wait_until(ended, what="the end of the job", poll_s=0.2)


def provoke_kafka(secured: Secured, output: Captured) -> None:
    """A wrong Kafka password in a client with debug logging."""
    wrong = secured.secrets.new("a wrong password of kafka")
    kafka = secured.settings.kafka.model_dump() | {"password": wrong}
    settings = secured.settings.model_copy(
        update={"kafka": type(secured.settings.kafka).model_validate(kafka)}
    )
    for arguments in (["run", "history"], ["topics", "check"]):
        output.add("a wrong password", run(settings, *arguments))


def break_the_shards(secured: Secured) -> None:
    """A record that no application writes ends the process, with a traceback."""
    kafka = secured.settings.kafka.model_copy(update={"prefix": "broken."})
    folder = secured.settings.data_dir / "broken"
    broken = secured.settings.model_copy(update={"kafka": kafka, "data_dir": folder})
    topics.apply(broken)
    records.send(broken, "segments.shards", [b"{}"], partition=0)
    shards = deployments.start(broken, "shards")
    wait_until(lambda: shards.exit_status is not None, what="the end of shards")
    deployments.stop_all(folder)


# --- output ---


def run(settings: Settings, *arguments: str, **variables: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "segments.cli", *arguments],
        env=child_environment(settings) | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return finished.stdout + finished.stderr


def command_line(process: deployments.Process) -> list[str]:
    return psutil.Process(process.pid).cmdline() if process.exit_status is None else []


def logs(secured: Secured) -> Iterator[Path]:
    yield from secured.settings.data_dir.glob("**/*.log")


def assert_it_was_provoked(output: Captured) -> None:
    """Output without content would prove nothing."""
    everything = "".join(output.texts.values())
    for word in (
        "SASL authentication error",
        "sasl.password = [redacted]",
        "not a log record",
        "Traceback",
        "not_json",
        "credentials_invalid",
        "role_needed",
        "head_too_large",
    ):
        assert word in everything, word


@pytest.mark.parametrize("fault", [*FAULTS, "away"])
async def test_user_info_of_a_url_is_not_printed(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret, user_id = "hush-1", str(uuid.uuid4())
    service = LeakyUserService()
    service.faults[user_id] = fault
    base_url = service.url.replace("//", f"//us:{secret}@")
    if fault == "away":
        service.close()
    settings = UserServiceSettings(base_url=base_url)
    client = UserServiceClient(settings)
    try:
        with pytest.raises(FetchError) as caught:
            await client.fetch(user_id)
    finally:
        await client.close()
        if fault != "away":
            service.close()
    sent = b64encode(f"us:{secret}".encode()).decode()
    if fault != "away":
        assert service.authorizations == {f"Basic {sent}"}
    output = repr(settings) + str(caught.value) + caplog.text
    assert secret not in output
    assert sent not in output


def test_two_authorizations_are_rejected() -> None:
    with pytest.raises(ValueError, match="but not both") as caught:
        UserServiceSettings(base_url="http://us:hush-1@users", token="hush-2")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["sasl.password", "ssl.key.password", "sasl.jaas.config"])
def test_secrets_among_the_options_of_kafka_are_hidden(name: str) -> None:
    settings = Settings(kafka={"options": {name: "hush"}})
    assert "hush" not in repr(settings) + str(settings.kafka) + f"{settings!r:.9999}"
