"""A misspelled setting is an error, not silently the default."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segments.settings import Settings, UnknownSettingError
from segments.settings.environment import child_environment


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("SEGMENTS_HTTP_PORT", "SEGMENTS_HTTP__PORT"),
        ("SEGMENTS_PARTITONS", "SEGMENTS_PARTITIONS"),
        ("SEGMENTS_KAFKA__PASWORD", "SEGMENTS_KAFKA__PASSWORD"),
        ("SEGMENTS_KAFKA__PASWORD_FILE", "SEGMENTS_KAFKA__PASSWORD_FILE"),
        ("SEGMENTS_KAFKA_PASSWORD_FILE", "SEGMENTS_KAFKA__PASSWORD_FILE"),
        ("SEGMENTS_AUTH__MOD", "SEGMENTS_AUTH__MODE"),
        ("SEGMENTS_UNKNOWN_USER", "SEGMENTS_UNKNOWN_USERS"),
    ],
)
def test_the_nearest_setting_is_named(
    variable: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "hidden")
    with pytest.raises(UnknownSettingError) as caught:
        Settings()
    assert str(caught.value) == f"{variable} is not a setting: did you mean {nearest}?"


def test_all_are_named_and_none_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_PARTITONS", "hidden")
    monkeypatch.setenv("segments_qqqqqqqqqq", "hidden")
    with pytest.raises(UnknownSettingError) as caught:
        Settings()
    assert "SEGMENTS_PARTITONS is not a setting" in str(caught.value)
    assert "segments_qqqqqqqqqq is not a setting: see segments settings" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SEGMENTS_URL", "http://elsewhere"),
        ("SEGMENTS_TOKEN", "t"),
        ("SEGMENTS_TOKEN_FILE", "/no/such/file"),
        ("SEGMENTS_SERVICE_HOST", "10.0.0.7"),
        ("SEGMENTS_SERVICE_PORT", "8080"),
        ("SEGMENTS_SERVICE_PORT_METRICS", "9101"),
        ("SEGMENTS_PORT", "tcp://10.0.0.7:8080"),
        ("SEGMENTS_HTTP_PORT", "tcp://10.0.0.7:8080"),
        ("SEGMENTS_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
        ("SEGMENTS_PORT_8080_TCP_ADDR", "10.0.0.7"),
        ("SEGMENTS_USER_SERVICE__STATES__ok", "active"),
        ("OTHER_SEGMENTS_X", "1"),
        ("segments_http__port", "8081"),
    ],
)
def test_what_others_put_there_is_left_alone(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of our own client, and of Kubernetes for a service of this name."""
    monkeypatch.setenv(variable, value)
    assert Settings().partitions == 8


def test_a_misspelt_name_in_the_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "segments.toml"
    file.write_text("partitons = 3\n")
    monkeypatch.setenv("SEGMENTS_CONFIG_FILE", str(file))
    with pytest.raises(ValueError, match="partitons"):
        Settings()


def test_the_command_line_says_it_in_a_line() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "segments.cli", "settings"],
        env=child_environment(Settings()) | {"SEGMENTS_HTTP_PORT": "8081"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode == 1
    assert "did you mean SEGMENTS_HTTP__PORT?" in finished.stderr
    assert "Traceback" not in finished.stderr
