"""Which auth settings the sidecar rejects at its start, and which belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segments.cli.settings import redacted
from segments.http.app import serve
from segments.local import up
from segments.settings import Settings
from segments.settings.auth import ALLOW_INSECURE, AuthSettings, ExposedError, require_guard
from segments.settings.environment import variables
from tests.support.credentials import JWT, SECRET

BEYOND = ["0.0.0.0", "::", "", "192.168.1.10", "example.com", "10.0.0.1"]
LOOPBACK = ["127.0.0.1", "127.0.0.2", "::1", "localhost"]
PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"


@pytest.mark.parametrize("host", BEYOND)
def test_nobody_listens_beyond_loopback_without_auth(host: str) -> None:
    with pytest.raises(ExposedError, match="SEGMENTS_AUTH__ALLOW_INSECURE"):
        require_guard(AuthSettings(), host)
    require_guard(AuthSettings(mode="keys"), host)
    require_guard(AuthSettings(**JWT), host)
    require_guard(AuthSettings(allow_insecure=ALLOW_INSECURE), host)


@pytest.mark.parametrize("host", LOOPBACK)
def test_no_auth_is_required_on_loopback(host: str) -> None:
    require_guard(AuthSettings(), host)


async def test_the_sidecar_refuses_to_start(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, http={"host": "0.0.0.0"})
    with pytest.raises(ExposedError):
        await serve(settings)


def test_so_does_the_supervisor(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, http={"host": "0.0.0.0"})
    with pytest.raises(ExposedError):
        up.up(settings, 1)


@pytest.mark.parametrize("word", ["true", "yes", "1", "I know", ALLOW_INSECURE.upper(), ""])
def test_it_takes_the_whole_sentence(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_AUTH__ALLOW_INSECURE", word)
    with pytest.raises(ValueError, match="allow_insecure"):
        Settings()


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"jwt_secret": None}, "one of"),
        ({"jwks_url": "https://issuer.example/jwks"}, "one of"),
        ({"jwt_secret": None, "jwks_url": "https://a.example", "jwks_file": "x"}, "one of"),
        ({"issuer": None}, "issuer"),
        ({"audience": None}, "audience"),
        ({"issuer": ""}, "issuer"),
        ({"jwt_secret": "short"}, "jwt_secret"),
        ({"algorithms": ["RS256"]}, "HS256"),
        ({"algorithms": ["HS256", "RS256"]}, "only HS256 is accepted"),
        ({"algorithms": []}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"jwt_secret": None, "jwks_file": "x", "algorithms": ["HS256"]}, "HS256"),
        ({"jwt_secret": None, "jwks_url": "http://issuer.example/jwks"}, "https"),
        ({"jwt_secret": None, "jwks_url": "file:///etc/passwd"}, "https"),
        ({"jwt_secret": None, "jwks_url": "issuer.example"}, "https"),
        ({"leeway_s": 601}, "leeway_s"),
        ({"roles": {"x": "root"}}, "roles"),
        ({"link_secret": "short"}, "link_secret"),
        ({"mode": "basic"}, "mode"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together(others: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AuthSettings(**JWT | others)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_keys_may_come_over_http_from_this_machine(host: str) -> None:
    url = f"http://{host}/jwks"
    assert AuthSettings(**JWT | {"jwt_secret": None, "jwks_url": url}).jwks_url == url


def test_a_public_key_is_no_secret() -> None:
    with pytest.raises(ValueError, match="public key"):
        AuthSettings(**JWT | {"jwt_secret": PEM})


def test_a_setting_that_is_a_file_is_no_secret_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    monkeypatch.setenv("SEGMENTS_AUTH__KEYS_FILE", str(tmp_path / "not there"))
    monkeypatch.setenv("SEGMENTS_AUTH__LINK_SECRET_FILE", str(secret))
    auth = Settings().auth
    assert auth.keys_file == tmp_path / "not there"
    assert auth.link_secret is not None
    assert auth.link_secret.get_secret_value() == SECRET


def test_a_child_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = {**JWT, "link_secret": SECRET, "keys_file": tmp_path / "k", "allow_insecure": None}
    settings = Settings(auth=auth)
    for name, value in variables(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(auth={**JWT, "link_secret": SECRET})
    assert SECRET not in repr(settings)
    assert SECRET not in "".join(redacted(settings).values())
    for name in ("JWT_SECRET", "LINK_SECRET"):
        monkeypatch.setenv(f"SEGMENTS_AUTH__{name}", "s3cr3t")
    with pytest.raises(ValueError, match="jwt_secret") as error:
        Settings()
    assert "s3cr3t" not in str(error.value)
