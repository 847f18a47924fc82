"""Static checks of docker-compose.yml and the Dockerfile."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from pydantic import BaseModel

from segments.cli import app
from segments.kafka.jars import KAFKA_VERSION
from segments.settings import ENV_PREFIX, Settings
from segments.settings.auth import require_guard
from segments.telemetry.metrics import APPLICATIONS
from tests.support.paths import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"] == "dynamic-segments"}


def _variables(section: type[BaseModel], prefix: str) -> set[str]:
    names: set[str] = set()
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= _variables(kind, f"{prefix}{name.upper()}__")
        else:
            names.add(prefix + name.upper())
    return names


def test_every_application_has_a_container() -> None:
    commands = {tuple(service.get("command", ())) for service in OURS.values()}
    assert {("run", name) for name in APPLICATIONS} | {("topics", "apply")} <= commands


@pytest.mark.parametrize("name", [n for n, s in OURS.items() if "entrypoint" not in s])
def test_every_command_exists(name: str) -> None:
    node: Any = typer.main.get_command(app)
    arguments = list(OURS[name]["command"])
    while arguments and hasattr(node, "commands"):
        assert arguments[0] in node.commands, f"{name}: no command {arguments[0]}"
        node = node.commands[arguments.pop(0)]
    with node.make_context(name, arguments) as context:
        assert context.params or not arguments


def test_every_setting_exists() -> None:
    known = _variables(Settings, ENV_PREFIX)
    for name, service in SERVICES.items():
        used = {key for key in service.get("environment", {}) if key.startswith(ENV_PREFIX)}
        assert used <= known, f"{name}: unknown {used - known}"
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert {word.split("=")[0] for word in dockerfile.split() if word.startswith(ENV_PREFIX)} == {
        "SEGMENTS_DATA_DIR"
    }


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_settings_of_each_application_are_valid(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.metrics.host == settings.http.host == "0.0.0.0"
    require_guard(settings.auth, settings.http.host)


def test_state_is_on_named_volumes() -> None:
    named = set(COMPOSE["volumes"])
    mounted = {
        volume.split(":")[0]: volume.split(":")[1]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith("./")
    }
    assert set(mounted) == named
    for name in ("kafka", "shards", "history", "http"):
        assert SERVICES[name]["volumes"], f"{name} keeps state"
    assert "history-data:/var/lib/segments/history" in SERVICES["http"]["volumes"]
    assert "history-data:/var/lib/segments/history" in SERVICES["history"]["volumes"]


def test_every_service_has_a_healthcheck() -> None:
    for name, service in SERVICES.items():
        health = service["healthcheck"]
        assert health.get("disable") or (health["test"][0] == "CMD" and health["interval"]), name
    assert SERVICES["topics"]["healthcheck"] == {"disable": True}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_healthchecks_use_the_served_port(name: str) -> None:
    url = urlsplit(SERVICES[name]["healthcheck"]["test"][-1].split("'")[1])
    settings = Settings()
    if name == "http":
        assert (url.port, url.path) == (settings.http.port, "/livez")
    else:
        assert (url.port, url.path) == (settings.metrics_port(name), "/metrics")


def test_applications_start_after_the_topics_were_applied() -> None:
    for name in APPLICATIONS:
        needs = SERVICES[name]["depends_on"]
        assert needs == {"topics": {"condition": "service_completed_successfully"}}
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}


def test_the_kafka_is_the_embedded_ones_version() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_the_image_never_imports_from_the_working_directory() -> None:
    assert "PYTHONSAFEPATH=1" in (ROOT / "Dockerfile").read_text()


MONITORING = {name: s for name, s in SERVICES.items() if s.get("profiles") == ["monitoring"]}


def test_monitoring_is_there_for_who_asks_for_it() -> None:
    assert set(MONITORING) == {"prometheus", "grafana"}
    for name, service in MONITORING.items():
        image, _, version = service["image"].partition(":")
        assert "/" in image, name
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", version), f"{name}: {version} may change by itself"


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_monitoring_mounts_repository_files_read_only() -> None:
    for service in MONITORING.values():
        mounts = [volume for volume in service["volumes"] if volume.startswith("./")]
        assert mounts
        for volume in mounts:
            path, _, mode = volume.split(":")
            assert (ROOT / path).is_dir(), path
            assert mode == "ro"


def test_nobody_sees_dashboards_without_a_password() -> None:
    said = MONITORING["grafana"]["environment"]
    assert said["GF_AUTH_ANONYMOUS_ENABLED"] == said["GF_USERS_ALLOW_SIGN_UP"] == "false"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_application_is_scraped_where_it_serves(name: str) -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}
    settings = Settings()
    port = settings.http.port if name == "http" else settings.metrics_port(name)
    assert targets[f"segments-{name}"] == [{"targets": [f"{name}:{port}"]}]
