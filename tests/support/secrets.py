"""A deployment in which everything is protected by a secret."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import OctKey

from segments.kafka.embedded import EmbeddedKafka
from segments.settings import Settings
from tests.support import deployments
from tests.support.leaky_user_service import LeakyUserService

USER = "segments-tests"


class Secrets:
    """Recognizable secrets by their purpose."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}

    def new(self, purpose: str) -> str:
        self.all[purpose] = f"hush-{secrets.token_hex(20)}"
        return self.all[purpose]

    def token(self, name: str, role: str, secret: str) -> str:
        """A client token; its signature is a secret as well."""
        claims = {"iss": "us", "aud": "segments", "sub": name, "role": role, "exp": 4_000_000_000}
        token = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))
        self.all[f"token of {name}"] = token.rpartition(".")[2]
        return token


@dataclass
class Secured:
    """A running deployment and its secrets."""

    settings: Settings
    secrets: Secrets
    service: LeakyUserService
    client: httpx.Client
    processes: dict[str, deployments.Process] = field(default_factory=dict)


def kafka_section(broker: EmbeddedKafka, password: str, **options: str) -> dict[str, Any]:
    sasl = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
    }
    return {
        "bootstrap_servers": broker.bootstrap_servers,
        "options": sasl | options,
        "password": password,
        "prefix": "t.",
    }
