"""Every setting of the service, in one tree.

Sources, strongest first: arguments, environment (`SEGMENTS_HTTP__PORT`), the TOML file named by
`SEGMENTS_CONFIG_FILE`, defaults. A secret may stand in a file: for the environment variable
`SEGMENTS_X` the service also reads the file named by `SEGMENTS_X_FILE`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

ENV_PREFIX = "SEGMENTS_"
CONFIG_FILE_VARIABLE = "SEGMENTS_CONFIG_FILE"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    """Where Kafka is and how clients reach it."""

    bootstrap_servers: str = "127.0.0.1:19092"
    options: dict[str, str] = Field(
        default_factory=dict, description="passed to librdkafka as they are: SASL, TLS"
    )
    password: SecretStr | None = Field(None, description="becomes sasl.password")
    prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="put before every topic and group: several deployments on one cluster",
    )
    embedded: bool = Field(False, description="`segments up` starts the embedded broker itself")
    replication_factor: int = Field(1, ge=1, le=10)
    message_max_bytes: int = Field(
        16_777_216, ge=1_048_576, description="largest state row, document or define"
    )


class HttpSettings(_Section):
    """The query sidecar."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    public_url: str | None = Field(None, description="prefix of report links")
    max_body_bytes: int = Field(1_048_576, ge=1024)
    max_batch_bytes: int = Field(16_777_216, ge=1024, description="body of POST /v1/commands")
    wait_s: float = Field(5.0, gt=0, description="default of Prefer: wait")
    max_wait_s: float = Field(30.0, gt=0)
    ready_lag_ms: int = Field(5_000, ge=100, description="view staler than this: not ready")
    read_threads: int = Field(4, ge=1, le=64)
    max_streams: int = Field(16, ge=1, description="reports streamed at the same time")
    max_waiters: int = Field(10_000, ge=1, description="requests waiting for a result or position")
    result_retention_s: int = Field(86_400, ge=60)
    partitions: list[int] | None = Field(None, description="partitions this view keeps; none = all")


class UserServiceSettings(_Section):
    """The service that knows the users (design 4)."""

    base_url: str | None = None
    path: str = Field("/users/{id}", description="joined to base_url; {id} is the user id")
    timeout_ms: int = Field(2_000, ge=10)
    concurrency: int = Field(32, ge=1, le=1024)
    attempts: int = Field(3, ge=1, le=20, description="fetches a user within one batch")
    backoff_ms: int = Field(100, ge=1)
    backoff_max_ms: int = Field(5_000, ge=1)
    give_up_after_s: float = Field(600.0, gt=0)
    max_body_bytes: int = Field(65_536, ge=256)
    id_field: str = "id"
    state_field: str = "state"
    version_field: str = "version"
    states: dict[str, Literal["active", "blocked", "deleted"]] = Field(
        default={"active": "active", "blocked": "blocked", "deleted": "deleted"},
        description="the user service's word for a state -> ours",
    )
    token: SecretStr | None = Field(None, description="sent as Authorization: Bearer")


class LimitSettings(_Section):
    """Bounds of what a shard keeps. All of them are inputs of the state machine: equal everywhere."""

    segments_per_user: int = Field(2_000, ge=1)
    segments: int = Field(100_000, ge=1)
    parked_per_user: int = Field(64, ge=1)
    park_ms: int = Field(5_000, ge=0, description="wait for a segment not yet heard of")
    remembered_ids: int = Field(64, ge=1)
    job_slice: int = Field(1_000, ge=1, description="users a tick works on")
    log_record_bytes: int = Field(900_000, ge=1_000, description="larger commands go to the DLQ")


class DevSettings(_Section):
    """Developer methods (U4)."""

    enabled: bool = False


class MetricsSettings(_Section):
    """Where each process serves Prometheus metrics; the sidecar serves them on its own port."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=0, le=65535, description="of this process; none = table")
    router_port: int = Field(9101, ge=0, le=65535)
    users_port: int = Field(9102, ge=0, le=65535)
    shards_port: int = Field(9103, ge=0, le=65535)
    history_port: int = Field(9104, ge=0, le=65535)


class Settings(BaseSettings):
    """All settings. `Settings()` reads the environment; arguments win over it."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="ignore", frozen=True
    )

    data_dir: Path = Path(".data")
    partitions: int = Field(8, ge=1, le=1024, description="fixed when a deployment is created")
    instance: int = Field(0, ge=0, description="number of this process among its equals")
    commit_interval_ms: int = Field(50, ge=1)
    poll_timeout_ms: int = Field(20, ge=1)
    tick_interval_ms: int = Field(1_000, ge=10)
    unknown_users: Literal["accept", "reject"] = "accept"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    user_service: UserServiceSettings = Field(default_factory=UserServiceSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    dev: DevSettings = Field(default_factory=DevSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        sources.append(_SecretFilesSource(settings_cls))
        if config_file := os.environ.get(CONFIG_FILE_VARIABLE):
            if not Path(config_file).is_file():
                raise FileNotFoundError(f"{CONFIG_FILE_VARIABLE} names no file: {config_file}")
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=config_file))
        return tuple(sources)

    def topic(self, name: str) -> str:
        """The name on the cluster of a topic of topics.yaml."""
        return self.kafka.prefix + name

    def group(self, application: str) -> str:
        """The consumer group of an application."""
        return f"{self.kafka.prefix}segments-{application}"

    def client_config(self) -> dict[str, Any]:
        """librdkafka configuration that every client of this deployment shares."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.kafka.bootstrap_servers,
            **self.kafka.options,
        }
        if self.kafka.password is not None:
            config["sasl.password"] = self.kafka.password.get_secret_value()
        return config

    def metrics_port(self, application: str) -> int:
        """Port on which an application serves its metrics (0 = any free one)."""
        if self.metrics.port is not None:
            return self.metrics.port
        base = int(getattr(self.metrics, f"{application}_port"))
        return base + 10 * self.instance if base else 0


class _SecretFilesSource(PydanticBaseSettingsSource):
    """Reads `SEGMENTS_A__B_FILE=/path` as the value of `SEGMENTS_A__B`."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for variable, path in os.environ.items():
            if not (variable.startswith(ENV_PREFIX) and variable.endswith("_FILE")):
                continue
            if variable == CONFIG_FILE_VARIABLE:
                continue
            keys = variable[len(ENV_PREFIX) : -len("_FILE")].lower().split("__")
            node = tree
            for key in keys[:-1]:
                node = node.setdefault(key, {})
            node[keys[-1]] = Path(path).read_text(encoding="utf-8").strip()
        return tree
