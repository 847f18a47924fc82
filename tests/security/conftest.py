"""One deployment for all tests of secrets: Kafka asks for a password, the sidecar for tokens."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from segments.kafka.access import Credentials
from segments.kafka.embedded import EmbeddedKafka
from segments.settings import Settings
from tests import support
from tests.security.service import TalkativeService

APPLICATIONS = ("router", "users", "shards", "history", "http")
FIRST_TIMEOUT_S = 300
USER = "segments-tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first also waits for a broker and five processes."""
    for item in items:
        if {"secured", "guarded_broker"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(FIRST_TIMEOUT_S))


class Secrets:
    """Texts that are found wherever they get to, by what they are for."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}

    def new(self, purpose: str) -> str:
        self.all[purpose] = f"hush-{secrets.token_hex(20)}"
        return self.all[purpose]

    def token(self, name: str, role: str, secret: str) -> str:
        """A token of a client, which is a secret as well."""
        claims = {"iss": "us", "aud": "segments", "sub": name, "role": role, "exp": 4_000_000_000}
        made = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))
        self.all[f"token of {name}"] = made.rpartition(".")[2]
        return made


@dataclass
class Secured:
    """Everything runs."""

    settings: Settings
    secrets: Secrets
    service: TalkativeService
    client: httpx.Client
    processes: dict[str, support.Process] = field(default_factory=dict)


@pytest.fixture(scope="module")
def hushed() -> Secrets:
    return Secrets()


@pytest.fixture(scope="module")
def guarded_broker(
    hushed: Secrets, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedKafka]:
    """An embedded Kafka that asks for a password."""
    credentials = Credentials(USER, hushed.new("kafka.password"))
    kafka = EmbeddedKafka(tmp_path_factory.mktemp("guarded"), credentials=credentials)
    kafka.start()
    try:
        yield kafka
    finally:
        kafka.kill()


def kafka_section(broker: EmbeddedKafka, password: str, **options: str) -> dict[str, Any]:
    asked = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
    }
    return {
        "bootstrap_servers": broker.bootstrap_servers,
        "options": asked | options,
        "password": password,
        "prefix": "t.",
    }


@pytest.fixture(scope="module")
def secured(
    guarded_broker: EmbeddedKafka, hushed: Secrets, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    """Every application, with a secret wherever one can be set, telling all it can."""
    jwt_secret = hushed.new("auth.jwt_secret")
    service = TalkativeService()
    s3 = {
        "kind": "s3",
        "bucket": "reports",
        "endpoint_url": service.url,
        "region": "here",
        "access_key": "segments",
        "secret_key": hushed.new("s3 secret_key"),
    }
    overrides: dict[str, Any] = {
        "log_level": "debug",
        "tick_interval_ms": 200,
        "kafka": kafka_section(
            guarded_broker,
            hushed.all["kafka.password"],
            **{"ssl.key.password": hushed.new("ssl.key.password"), "debug": "conf,security"},
        ),
        "user_service": {
            "base_url": service.url,
            "token": hushed.new("user_service.token"),
            "attempts": 1,
            "backoff_max_ms": 200,
            "give_up_after_s": 1,
        },
        "auth": {
            "mode": "jwt",
            "jwt_secret": jwt_secret,
            "issuer": "us",
            "audience": "segments",
            "link_secret": hushed.new("auth.link_secret"),
        },
        "reports": {"destinations": {"s3": s3}, "attempts": 2, "backoff_ms": 100},
        "dev": {"enabled": True},
    }
    folder = tmp_path_factory.mktemp("secured") / "data"
    bootstrap_servers = guarded_broker.bootstrap_servers
    with support.deployment(bootstrap_servers, folder, **overrides) as settings:
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{settings.http.port}",
            headers={"Authorization": f"Bearer {hushed.token('ann', 'admin', jwt_secret)}"},
            trust_env=False,
            timeout=60,
        )
        running = Secured(settings, hushed, service, client)
        for name in APPLICATIONS:
            running.processes[name] = support.start(settings, name)
        support.wait_until(lambda: _ready(client), 180, what="readiness")
        yield running
        client.close()
    service.close()


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
