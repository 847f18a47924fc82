"""All settings of the service, in one tree.

Sources, strongest first: arguments, environment (`SEGMENTS_HTTP__PORT`), the TOML file named by
`SEGMENTS_CONFIG_FILE`, defaults. Any setting can be read from a file, which is meant for secrets:
instead of `SEGMENTS_X`, set `SEGMENTS_X_FILE` to the path of the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from segments.settings.auth import AuthSettings
from segments.settings.reports import ReportSettings
from segments.settings.sections import (
    DevSettings,
    HttpSettings,
    KafkaSettings,
    LimitSettings,
    MetricsSettings,
    UserServiceSettings,
)
from segments.settings.sources import (
    CONFIG_FILE_VARIABLE,
    ENV_PREFIX,
    SecretFilesSource,
    names_a_file,
)
from segments.settings.strict_env import UnknownSettingError, require_known

__all__ = [
    "CONFIG_FILE_VARIABLE",
    "ENV_PREFIX",
    "AuthSettings",
    "DevSettings",
    "HttpSettings",
    "KafkaSettings",
    "LimitSettings",
    "MetricsSettings",
    "ReportSettings",
    "Settings",
    "UnknownSettingError",
    "UserServiceSettings",
]


class Settings(BaseSettings):
    """All settings. `Settings()` reads the environment; arguments take precedence."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # an invalid value may be a secret
    )

    data_dir: Path = Field(Path(".data"), description="folder for all data on this machine")
    partitions: int = Field(
        8, ge=1, le=1024, description="number of shards; fixed when a deployment is created"
    )
    instance: int = Field(
        0,
        ge=0,
        description="number of this process among those of its application; unique per machine",
    )
    commit_interval_ms: int = Field(
        50, ge=1, description="interval between checkpoints of an application"
    )
    poll_timeout_ms: int = Field(20, ge=1, description="longest wait for records before a commit")
    tick_interval_ms: int = Field(
        1_000, ge=10, description="interval between ticks of an idle shard"
    )
    job_rest_ratio: float = Field(
        0.6,
        ge=0,
        le=10,
        description="pause after each slice of a job, as a multiple of the slice's duration",
    )
    unknown_users: Literal["accept", "reject"] = Field(
        "accept", description="how a command for a user who is not in the replica is handled"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum level of log entries"
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    user_service: UserServiceSettings = Field(default_factory=UserServiceSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    dev: DevSettings = Field(default_factory=DevSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    reports: ReportSettings = Field(default_factory=ReportSettings)

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
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)
        require_known(settings_cls)
        # A variable that names a file is not a setting: its section would reject it as unknown.
        env_settings.env_vars = {
            variable: value
            for variable, value in env_settings.env_vars.items()
            if not names_a_file(variable, settings_cls)
        }
        sources = [init_settings, env_settings, SecretFilesSource(settings_cls)]
        if config_file := os.environ.get(CONFIG_FILE_VARIABLE):
            if not Path(config_file).is_file():
                raise FileNotFoundError(f"{CONFIG_FILE_VARIABLE}: no such file: {config_file}")
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=config_file))
        return tuple(sources)

    def topic(self, name: str) -> str:
        """The name on the cluster of a topic from topics.yaml."""
        return self.kafka.prefix + name

    def group(self, application: str) -> str:
        """The consumer group of an application."""
        return f"{self.kafka.prefix}segments-{application}"

    def client_config(self) -> dict[str, Any]:
        """librdkafka options shared by every client of this deployment."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.kafka.bootstrap_servers,
            **self.kafka.options,
        }
        if self.kafka.password is not None:
            config["sasl.password"] = self.kafka.password.get_secret_value()
        return config

    def metrics_port(self, application: str) -> int:
        """The port on which an application serves its metrics; 0 = any free port."""
        if self.metrics.port is not None:
            return self.metrics.port
        base = int(getattr(self.metrics, f"{application}_port"))
        return base + 10 * self.instance if base else 0
