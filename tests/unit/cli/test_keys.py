"""`segments keys`: output, stored keys and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from segments.cli import app
from segments.cli.usage import UsageError
from segments.http.auth import api_keys


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_DATA_DIR", str(tmp_path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def create(*arguments: str) -> str:
    result = run("create", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_key_is_printed_only_on_creation() -> None:
    key = create("--role", "admin", "--name", "ops")
    assert api_keys.PATTERN.fullmatch(key)
    listed = run("list").stdout + run("list", "--json").stdout
    assert key not in listed
    assert key.rpartition("_")[2] not in listed


def test_keys_are_listed_by_name() -> None:
    create("--role", "analyst", "--name", "shop", "--expires", "2100-01-01T00:00:00Z")
    create("--role", "admin", "--name", "[bold]ops", "--expires", "P90D")
    rows = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [row["name"] for row in rows] == ["[bold]ops", "shop"]
    assert rows[1]["expires_at"] == "2100-01-01T00:00:00.000Z"
    assert {row["expired"] for row in rows} == {False}
    table = run("list").stdout
    assert "[bold]ops" in table
    assert rows[0]["id"] in table


def test_revoked_key_is_not_listed() -> None:
    key = create("--role", "admin", "--name", "ops")
    assert run("revoke", "ops").stdout == f"revoked {key.split('_')[1]} of ops\n"
    assert run("list", "--json").stdout == ""
    assert isinstance(run("revoke", "ops").exception, api_keys.KeysError)


@pytest.mark.parametrize("expires", ["2020-01-01T00:00:00Z", "tomorrow", "P", "PT0S", ""])
def test_invalid_expiry_is_rejected(tmp_path: Path, expires: str) -> None:
    result = run("create", "--role", "admin", "--name", "ops", "--expires", expires)
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.parametrize("arguments", [("--role", "root", "--name", "x"), ("--role", "admin")])
def test_unknown_role_and_missing_name_are_usage_errors(arguments: tuple[str, ...]) -> None:
    assert run("create", *arguments).exit_code == 2


def test_empty_name_is_rejected() -> None:
    assert isinstance(run("create", "--role", "admin", "--name", "").exception, UsageError)


def test_keys_file_setting_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "shared" / "our-keys.json"
    monkeypatch.setenv("SEGMENTS_AUTH__KEYS_FILE", str(elsewhere))
    create("--role", "admin", "--name", "ops")
    assert [key.name for key in api_keys.load(elsewhere)] == ["ops"]
