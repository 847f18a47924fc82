"""Destination settings: read from every source, passed to processes, printed without secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from segments.cli.settings import redacted
from segments.settings import Settings
from segments.settings.destinations import SftpDestination, secret
from segments.settings.environment import variables

SECRETS = {
    "password": "sesame-1",
    "secret_key": "sesame-2",
    "refresh_token": "sesame-3",
    "app_secret": "sesame-4",
    "private_key": "sesame-5",
    "passphrase": "sesame-6",
    "access_token": "sesame-7",
}
SFTP = {"kind": "sftp", "host": "files.example", "username": "u", "host_key": "ssh-ed25519 AAAA"}
ALL: dict[str, dict[str, Any]] = {
    "disk": {"kind": "folder", "path": "/srv/reports"},
    "nas": {**SFTP, "password": "sesame-1"},
    "nas-by-key": {**SFTP, "private_key": "sesame-5", "passphrase": "sesame-6"},
    "bucket": {"kind": "s3", "bucket": "reports", "access_key": "a", "secret_key": "sesame-2"},
    "box": {
        "kind": "dropbox",
        "app_key": "k",
        "app_secret": "sesame-4",
        "refresh_token": "sesame-3",
        "path": "/reports",
    },
    "box-by-token": {"kind": "dropbox", "access_token": "sesame-7"},
}


def settings(**reports: Any) -> Settings:
    return Settings(reports=reports)


def test_a_child_reads_what_its_parent_has(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = settings(destination="nas", destinations=ALL, max_running=3)
    handed = {k: v for k, v in variables(parent).items() if "REPORTS" in k}
    for name, value in handed.items():
        monkeypatch.setenv(name, value)
    child = Settings()
    assert child.reports == parent.reports
    nas = child.reports.destinations["nas"]
    assert isinstance(nas, SftpDestination)
    assert secret(nas, "password") == "sesame-1"


def test_no_secret_is_shown() -> None:
    made = settings(destinations=ALL)
    for text in (repr(made), str(made), json.dumps(redacted(made)), made.model_dump_json()):
        assert "sesame" not in text


def test_no_secret_is_in_what_is_said_of_wrong_settings() -> None:
    wrong = {**ALL["nas"], "host_key": None, "elsewhere": 1}
    with pytest.raises(ValidationError) as caught:
        settings(destinations={"nas": wrong})
    assert "sesame" not in str(caught.value)


def test_from_a_toml_file_and_a_secret_from_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "segments.toml"
    config.write_text(
        '[reports]\ndestination = "nas"\n[reports.destinations.nas]\nkind = "sftp"\n'
        'host = "files.example"\nusername = "u"\nhost_key = "ssh-ed25519 AAAA"\n'
    )
    password = tmp_path / "password"
    password.write_text("sesame-1\n")
    monkeypatch.setenv("SEGMENTS_CONFIG_FILE", str(config))
    monkeypatch.setenv("SEGMENTS_REPORTS__DESTINATIONS__NAS__PASSWORD_FILE", str(password))
    nas = Settings().reports.destinations["nas"]
    assert isinstance(nas, SftpDestination)
    assert (nas.host, secret(nas, "password")) == ("files.example", "sesame-1")


def test_a_secret_is_read_anew_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("sesame-1\n")
    nas = SftpDestination(**SFTP, password_file=file)
    assert secret(nas, "password") == "sesame-1"
    file.write_text("sesame-2\n")
    assert secret(nas, "password") == "sesame-2"


@pytest.mark.parametrize(
    ("described", "what"),
    [
        ({"kind": "ftp"}, "kind"),
        ({"kind": "folder"}, "path"),
        ({"kind": "s3", "bucket": "reports", "access_key": "a"}, "both access_key and secret_key"),
        ({"kind": "s3", "bucket": "reports", "endpoint_url": "https://u:p@host"}, "endpoint_url"),
        ({"kind": "s3", "bucket": "reports", "link_ttl_s": 700_000}, "link_ttl_s"),
        (SFTP, "password, private_key"),
        ({**SFTP, "password": "p", "host_key": None}, "known_hosts and host_key"),
        ({**SFTP, "password": "p", "known_hosts": "/k"}, "known_hosts and host_key"),
        ({**SFTP, "password": "p", "password_file": "/p"}, "only one of"),
        ({"kind": "dropbox"}, "refresh_token and access_token"),
        ({"kind": "dropbox", "refresh_token": "r"}, "app_key"),
        ({"kind": "dropbox", "access_token": "t", "path": "reports/"}, "path"),
    ],
)
def test_what_is_not_enough_or_too_much(described: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        settings(destinations={"x": described})


@pytest.mark.parametrize("name", ["link", "", "a b", "é", "-a", "x" * 65])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValidationError, match="destination's name"):
        settings(destinations={name: ALL["disk"]})


def test_a_default_that_does_not_exist() -> None:
    with pytest.raises(ValidationError, match="not among destinations"):
        settings(destination="nas", destinations={"disk": ALL["disk"]})
