"""Who may use Kafka: what the embedded broker asks for, and whether a broker lets us in.

The embedded broker asks for what its clients are told to show: the same settings serve both.
"""

from __future__ import annotations

import re
import time
from typing import Any, NamedTuple

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from segments.settings import Settings

ACCESS_TIMEOUT_S = 30.0
_TRY_S = 1.0
_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_REFUSED = (
    ClientError._AUTHENTICATION,  # noqa: SLF001 - its public name
    ClientError._SSL,  # noqa: SLF001 - its public name
    ClientError.SASL_AUTHENTICATION_FAILED,
)


class KafkaError(RuntimeError):
    """Kafka cannot be started or used; the message says why."""


class Credentials(NamedTuple):
    """A user of the embedded broker, by SASL PLAIN."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, **********)"

    def of_client(self) -> dict[str, Any]:
        """What librdkafka is told."""
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": self.user,
            "sasl.password": self.password,
        }

    def of_broker(self, *listeners: str) -> str:
        """Lines of the broker's properties, for listeners by their names in lower case."""
        user, password = _quoted(self.user), _quoted(self.password)
        known = (
            f"{_MODULE} required username={user} password={password} user_{self.user}={password};"
        )
        lines = [
            "sasl.enabled.mechanisms=PLAIN",
            "sasl.mechanism.inter.broker.protocol=PLAIN",
            "sasl.mechanism.controller.protocol=PLAIN",
        ]
        value = _property(known)
        lines += [f"listener.name.{name}.plain.sasl.jaas.config={value}" for name in listeners]
        return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """A value of a JAAS configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _property(value: str) -> str:
    """A value of a properties file of Java: its own escapes, everything else ASCII."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[place : place + 2], "big") for place in range(0, len(units), 2)]
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)


def credentials_of(settings: Settings) -> Credentials | None:
    """What the embedded broker is to ask for: what clients are told to show; None = nothing.

    KafkaError for what it cannot do: it speaks PLAINTEXT, and SASL_PLAINTEXT with PLAIN.
    """
    client = settings.client_config()
    protocol = str(client.get("security.protocol", "plaintext")).upper()
    if protocol == "PLAINTEXT":
        return None
    mechanism = client.get("sasl.mechanism", client.get("sasl.mechanisms", ""))
    if protocol != "SASL_PLAINTEXT" or mechanism != "PLAIN":
        raise KafkaError(
            "the embedded Kafka speaks PLAINTEXT, or SASL_PLAINTEXT with PLAIN: "
            f"kafka.options ask for {protocol} {mechanism}".rstrip()
        )
    user, password = client.get("sasl.username", ""), client.get("sasl.password", "")
    if not _USER.fullmatch(user):
        raise KafkaError("sasl.username of the embedded Kafka: letters, digits, `.`, `_` and `-`")
    if not password or not password.isprintable():
        raise KafkaError("the embedded Kafka needs kafka.password, of characters that are printed")
    return Credentials(user, password)


def admin_client(settings: Settings, timeout_s: float = ACCESS_TIMEOUT_S) -> AdminClient:
    """A client whom the brokers have let in. KafkaError, saying why, when they do not.

    Otherwise a client tries again for ever, and says no more than that it waits.
    """
    errors: dict[int, str] = {}

    def note(error: ClientError) -> None:
        errors[error.code()] = error.str()

    # Below warnings the client tells of its own queues, which nobody acts on.
    admin = AdminClient({"log_level": 4} | settings.client_config() | {"error_cb": note})
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            if admin.list_topics(timeout=min(_TRY_S, timeout_s)).brokers:
                return admin
        except KafkaException as error:
            note(error.args[0])
        admin.poll(0)
        if refused := [text for code, text in errors.items() if code in _REFUSED]:
            raise KafkaError(_explained(settings, refused[0]))
        if time.monotonic() > deadline_s:
            raise KafkaError(
                f"Kafka at {settings.kafka.bootstrap_servers} was not reached within "
                f"{timeout_s:.0f} s: {'; '.join(errors.values()) or 'no word from it'}. "
                "Is it up, and is security.protocol of kafka.options that of its listener?"
            )


def _explained(settings: Settings, reason: str) -> str:
    return (
        f"Kafka at {settings.kafka.bootstrap_servers} does not let us in: {reason}. "
        "Check kafka.options (security.protocol, sasl.mechanism, sasl.username, ssl.…) "
        "and kafka.password."
    )
