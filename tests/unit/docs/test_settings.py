"""The precedence of settings sources, as docs/settings.md describes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segments.settings import Settings


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TOML file and a secret in a file, both named in the environment."""
    config = tmp_path / "segments.toml"
    config.write_text('partitions = 3\n[http]\nport = 8081\n[user_service]\ntoken = "toml"\n')
    token = tmp_path / "token"
    token.write_text("from a file\n")
    monkeypatch.setenv("SEGMENTS_CONFIG_FILE", str(config))
    monkeypatch.setenv("SEGMENTS_USER_SERVICE__TOKEN_FILE", str(token))
    return tmp_path


def _token(settings: Settings) -> str:
    assert settings.user_service.token is not None
    return settings.user_service.token.get_secret_value()


@pytest.mark.usefixtures("files")
def test_a_secret_in_a_file_is_stronger_than_the_toml_file() -> None:
    settings = Settings()
    assert (settings.partitions, settings.http.port) == (3, 8081)
    assert _token(settings) == "from a file"


@pytest.mark.usefixtures("files")
def test_a_variable_is_stronger_than_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_HTTP__PORT", "8082")
    monkeypatch.setenv("SEGMENTS_USER_SERVICE__TOKEN", "from a variable")
    settings = Settings()
    assert settings.http.port == 8082
    assert _token(settings) == "from a variable"
    assert settings.partitions == 3


def test_lists_and_objects_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_KAFKA__OPTIONS", '{"security.protocol": "SASL_SSL"}')
    monkeypatch.setenv("SEGMENTS_HTTP__PARTITIONS", "[0, 3]")
    settings = Settings()
    assert settings.kafka.options == {"security.protocol": "SASL_SSL"}
    assert settings.http.partitions == [0, 3]


def test_an_unknown_setting_of_a_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"http\.elsewhere"):
        Settings(http={"elsewhere": 1})
    with pytest.raises(ValueError, match="elsewhere"):
        Settings(elsewhere=1)  # type: ignore[call-arg] # the point
