"""schemathesis sends a real sidecar requests that the OpenAPI document allows or forbids."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from segments.settings import Settings
from tests.support import deployments
from tests.support.api import Deployment
from tests.support.credentials import api_key
from tests.support.paths import ROOT

CONFIG = ROOT / "tests" / "support" / "openapi" / "schemathesis.toml"
USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
SEGMENTS = ("newsletter", "beta", "trial")
"""Segments that the examples of the document refer to."""
TIMEOUT_S = 300


class Served(NamedTuple):
    """The URL of the deployment, and the API key of an admin."""

    url: str
    key: str


@pytest.fixture
def served(broker: str, tmp_path: Path) -> Iterator[Served]:
    """A separate deployment that requires API keys and whose rules may select any user."""
    with deployments.deployment(
        broker,
        tmp_path / "data",
        tick_interval_ms=200,
        dev={"enabled": True},
        http={"ready_lag_ms": 2_500},
        auth={"mode": "keys"},
    ) as settings:
        yield from _serving(settings)


def _serving(settings: Settings) -> Iterator[Served]:
    deployment = Deployment(settings)
    key = api_key(settings.data_dir)
    deployment.api.client.headers["Authorization"] = f"Bearer {key}"
    deployment.start("router", "users", "shards", "history", "http")
    deployment.wait_until_ready()
    assert deployment.api.set_state(USER, "active").status_code == 200
    for name in SEGMENTS:
        made = deployment.api.client.post("/v1/segments", json={"segment": name})
        assert made.status_code == 201, made.text
    deployment.api.changed(USER, add=["newsletter"])
    yield Served(deployment.api.url, key)
    deployment.api.close()


@pytest.mark.timeout(TIMEOUT_S + 120)
def test_responses_conform_to_the_document(served: Served, tmp_path: Path) -> None:
    """No undocumented status, header, media type or body, no 500; invalid requests are rejected."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "*",
        "SEGMENTS_TEST_KEY": served.key,
    }
    argv = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)]
    done = subprocess.run(
        [*argv, "run", f"{served.url}/openapi.json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, found, summary = done.stdout.partition("= SUMMARY =")
    assert found
    sys.stdout.write(summary)
