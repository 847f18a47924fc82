"""`segments openapi`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from segments.cli import app
from segments.http.app import interface
from segments.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "environment", "dev"),
    [
        ([], {}, False),
        ([], {"SEGMENTS_DEV__ENABLED": "true"}, True),
        (["--dev"], {}, True),
        (["--no-dev"], {"SEGMENTS_DEV__ENABLED": "true"}, False),
    ],
)
def test_openapi_document_is_printed(
    arguments: list[str], environment: dict[str, str], dev: bool
) -> None:
    result = CliRunner().invoke(app, ["openapi", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)
    assert printed == interface(Settings(dev={"enabled": dev}))
    assert ("/dev/users/import" in printed["paths"]) is dev


def test_openapi_document_reflects_settings() -> None:
    environment = {
        "SEGMENTS_HTTP__PUBLIC_URL": "https://segments.example/api",
        "SEGMENTS_AUTH__MODE": "keys",
        "SEGMENTS_AUTH__METRICS": "admin",
    }
    result = CliRunner().invoke(app, ["openapi"], env=environment)
    printed = json.loads(result.output)
    assert printed["servers"] == [{"url": "https://segments.example/api"}]
    assert printed["paths"]["/metrics"]["get"]["security"] == [{"bearer": ["admin"]}]
    assert printed["paths"]["/v1/segments"]["post"]["x-required-role"] == "admin"
