"""The deployment of the security tests: Kafka requires SASL, the sidecar requires tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from segments.kafka.access import Credentials
from segments.kafka.embedded import EmbeddedKafka
from tests.support import deployments
from tests.support.leaky_user_service import LeakyUserService
from tests.support.secrets import USER, Secrets, Secured, kafka_section

APPLICATIONS = ("router", "users", "shards", "history", "http")
FIRST_TIMEOUT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Extend the timeout: the first test also waits for a broker and five processes."""
    for item in items:
        if {"secured", "guarded_broker"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(FIRST_TIMEOUT_S))


@pytest.fixture(scope="package")
def hushed() -> Secrets:
    return Secrets()


@pytest.fixture(scope="package")
def guarded_broker(
    hushed: Secrets, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedKafka]:
    """An embedded Kafka that requires a password."""
    credentials = Credentials(USER, hushed.new("kafka.password"))
    kafka = EmbeddedKafka(tmp_path_factory.mktemp("guarded"), credentials=credentials)
    kafka.start()
    try:
        yield kafka
    finally:
        kafka.kill()


@pytest.fixture(scope="package")
def secured(
    guarded_broker: EmbeddedKafka, hushed: Secrets, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    """Every application, with every possible secret and the most verbose logging."""
    jwt_secret = hushed.new("auth.jwt_secret")
    service = LeakyUserService()
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
        "tick_interval_ms": 500,
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
    with deployments.deployment(bootstrap_servers, folder, **overrides) as settings:
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{settings.http.port}",
            headers={"Authorization": f"Bearer {hushed.token('ann', 'admin', jwt_secret)}"},
            trust_env=False,
            timeout=60,
        )
        running = Secured(settings, hushed, service, client)
        for name in APPLICATIONS:
            running.processes[name] = deployments.start(settings, name)
        deployments.wait_until(lambda: _ready(client), 180, what="readiness")
        yield running
        client.close()
    service.close()


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
