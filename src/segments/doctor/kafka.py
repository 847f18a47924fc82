"""Checks of the Kafka cluster: connection, topics, and the features that the service needs.

Every check tries the calls that the service makes and reports which of them failed.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from segments.doctor.findings import Finding, fail, ok
from segments.kafka import access, topics
from segments.kafka.clients import topic_ids
from segments.settings import Settings

_SILENT = {"log_level": 0}
"""Client options: no log lines between the findings."""
_ADDRESS_HELP = "set kafka.bootstrap_servers to the addresses of running brokers"
_PERMISSIONS = "grant the user this permission in the ACLs of the cluster"
_CREDENTIALS = (
    "SASL authentication failed",
    "set sasl.username in kafka.options and kafka.password to credentials that the brokers accept",
)
_EXPLANATIONS: dict[int, tuple[str, str]] = {
    KafkaError._AUTHENTICATION: _CREDENTIALS,  # noqa: SLF001 - librdkafka's public error codes
    KafkaError.SASL_AUTHENTICATION_FAILED: _CREDENTIALS,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: (
        "the brokers do not support this SASL mechanism",
        "set sasl.mechanism in kafka.options to one that they support",
    ),
    KafkaError._SSL: (  # noqa: SLF001 - as above
        "the TLS handshake failed",
        "set ssl.ca.location in kafka.options, and use a host name from the certificate",
    ),
    KafkaError._RESOLVE: ("the host name cannot be resolved", _ADDRESS_HELP),  # noqa: SLF001 - as above
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: ("the user may not read metadata", _PERMISSIONS),
}
_CONNECT_TIMEOUT_S = 0.5
_NO_TOPIC_ID = "0" * 32
"""What a broker older than Kafka 2.8 returns for the id of a topic."""


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Whether the brokers respond to a client with these settings."""
    servers = settings.kafka.bootstrap_servers
    try:
        admin = access.admin_client(settings, timeout_s, **_SILENT)
        brokers = admin.list_topics(timeout=timeout_s).brokers.values()
    except access.KafkaError as error:
        listening = is_listening(servers, _CONNECT_TIMEOUT_S)
        yield unreachable(servers, error.causes, listening=listening)
    except KafkaException as error:
        yield fail("kafka", error.args[0].str(), "correct kafka.options: librdkafka rejects them")
    else:
        addresses = ", ".join(f"{broker.host}:{broker.port}" for broker in brokers)
        yield ok("kafka", f"{len(brokers)} brokers respond: {addresses}")


def client(settings: Settings, **options: Any) -> AdminClient:
    """An admin client that logs nothing."""
    return AdminClient(settings.client_config() | _SILENT | options)


def unreachable(servers: str, errors: Sequence[KafkaError], *, listening: bool) -> Finding:
    """Why no broker responded. `listening`: one of the addresses accepts TCP connections."""
    for error in errors:
        if error.code() in _EXPLANATIONS:
            seen, todo = _EXPLANATIONS[error.code()]
            return fail("kafka", f"{servers}: {seen}: {error.str()}", todo)
    # That all brokers are down is reported beside every other error.
    general = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - as above
    specific = [error.str() for error in errors if error.code() != general]
    reason = specific[0] if specific else "no response"
    if listening:
        return fail(
            "kafka",
            f"{servers}: the port is open, but no broker responds: {reason}",
            "set security.protocol in kafka.options to the protocol of the brokers' listener",
        )
    return fail("kafka", f"{servers}: {reason}", _ADDRESS_HELP)


def is_listening(servers: str, timeout_s: float) -> bool:
    """Whether one of the comma-separated addresses accepts TCP connections."""
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout_s):
                return True
        except (OSError, ValueError):
            continue
    return False


def look_at_topics(settings: Settings, _timeout_s: float) -> Iterator[Finding]:
    """Whether every topic exists with the configuration of topics.yaml."""
    try:
        topics.check(settings)
    except topics.TopicsError as error:
        missing = [fault for fault in error.faults if fault.endswith(": missing")]
        todo = "segments topics apply" if missing else "change the topic or the setting to match"
        for fault in error.faults:
            yield fail("topics", fault, todo)
    else:
        yield ok(
            "topics",
            f"{len(topics.load())} topics are as configured, with {settings.partitions} shards",
        )


def look_at_api(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Whether the brokers support transactions and topic ids.

    No transaction is begun: initializing the producer only registers its transactional id, which
    the brokers remove after a week.
    """
    present = client(settings).list_topics(timeout=timeout_s).topics
    names = [each.name for each in topics.load() if settings.topic(each.name) in present]
    ids = topic_ids(settings, names) if names else {}
    options = {"transactional.id": settings.group("doctor")} | _SILENT
    try:
        Producer(settings.client_config() | options).init_transactions(timeout_s)
    except KafkaException as error:
        yield api_finding(ids.values(), error.args[0])
    else:
        yield api_finding(ids.values(), None)


def api_finding(ids: Collection[str], error: KafkaError | None) -> Finding:
    """`ids` of the topics that exist; `error` of the attempt to initialize transactions."""
    upgrade = "use Kafka 2.8 or newer; 4.1 is tested"
    if _NO_TOPIC_ID in ids:
        return fail("broker API", "the brokers do not support topic ids", upgrade)
    if error is None:
        return ok("broker API", "transactions and topic ids are supported")
    seen = f"transactions cannot be initialized: {error.str()}"
    if error.code() == KafkaError._UNSUPPORTED_FEATURE:  # noqa: SLF001 - as above
        return fail("broker API", seen, upgrade)
    if error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return fail("broker API", seen, _PERMISSIONS)
    todo = "check that __transaction_state has its replicas: transaction.state.log.min.isr"
    return fail("broker API", seen, todo)
