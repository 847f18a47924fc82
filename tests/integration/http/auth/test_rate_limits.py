"""Rate limits over a real socket: counted clients, exempt routes, and the responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from segments.settings import Settings
from tests.support.sidecar import Sidecar, assert_problem, running, store

PATH = "/v1/segments"
SECRET = "a secret of the tests, of more than 32 bytes"
HOUR: dict[str, Any] = {"rate_limit_per_s": 1 / 3_600, "rate_burst": 3}
"""No client regains a request within a test."""


def token(name: str, secret: str = SECRET, role: str = "admin") -> dict[str, str]:
    claims = {"iss": "us", "aud": "segments", "sub": name, "role": role, "exp": 4_000_000_000}
    return bearer(jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret)))


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
def with_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Require credentials."""
    variables = {"MODE": "jwt", "JWT_SECRET": SECRET, "ISSUER": "us", "AUDIENCE": "segments"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SEGMENTS_AUTH__{name}", value)


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Sidecar]:
    store(tmp_path, [])
    async with running(tmp_path, **HOUR) as sidecar:
        yield sidecar


async def statuses(sidecar: Sidecar, times: int, path: str = PATH, **options: Any) -> list[int]:
    return [(await sidecar.get(path, **options)).status_code for _ in range(times)]


def assert_limited(response: Any, at_least_s: int = 1) -> None:
    assert_problem(response, 429, "rate_limited")
    assert int(response.headers["retry-after"]) >= at_least_s


async def test_without_auth_requests_are_counted_by_address(limited: Sidecar) -> None:
    assert await statuses(limited, 3) == [200] * 3
    response = await limited.get(PATH)
    assert_limited(response, at_least_s=3_500)
    assert_limited(await limited.client.post(PATH, json={"segment": "new"}))
    assert limited.producer.sent == []
    assert_limited(await limited.get("/no/such/path"))


async def test_health_and_metrics_are_exempt(limited: Sidecar) -> None:
    assert await statuses(limited, 5) == [200] * 3 + [429] * 2
    for path in ("/livez", "/readyz", "/metrics"):
        assert await statuses(limited, 5, path) == [200] * 5


async def test_requests_pass_again_after_the_wait(tmp_path: Path) -> None:
    store(tmp_path, [])
    async with running(tmp_path, rate_limit_per_s=5, rate_burst=1) as sidecar:
        answered: list[int] = []
        while len(set(answered)) < 2 or answered[-1] == 429:
            answered += await statuses(sidecar, 1)
        assert (answered[0], set(answered)) == (200, {200, 429})


async def test_there_is_no_limit_by_default(tmp_path: Path) -> None:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        assert set(await statuses(sidecar, 50)) == {200}


@pytest.mark.usefixtures("with_tokens")
async def test_each_name_has_a_rate_of_its_own(limited: Sidecar) -> None:
    ann, bob = token("ann"), token("bob")
    assert await statuses(limited, 4, headers=ann) == [200] * 3 + [429]
    assert await statuses(limited, 4, headers=bob) == [200] * 3 + [429]
    assert await statuses(limited, 1, headers=token("ann", role="analyst")) == [429]


@pytest.mark.usefixtures("with_tokens")
async def test_failed_authentication_is_limited(tmp_path: Path) -> None:
    store(tmp_path, [])
    good, forged = token("ann"), token("ann", secret=SECRET[::-1])
    async with running(tmp_path, failed_auth_per_min=0) as sidecar:
        assert set(await statuses(sidecar, 20, headers=forged)) == {401}
    async with running(tmp_path, failed_auth_per_min=5) as sidecar:
        assert await statuses(sidecar, 10) == [401] * 10, "who shows nothing guesses nothing"
        assert set(await statuses(sidecar, 20, headers=good)) == {200}
        guesses = [forged, bearer("rubbish"), {"Authorization": "Bearer é"}, forged, forged]
        for guess in guesses:
            encoded = {name: value.encode() for name, value in guess.items()}
            assert_problem(await sidecar.get(PATH, headers=encoded), 401, "credentials_invalid")
        response = await sidecar.get(PATH, headers=forged)
        assert_limited(response, at_least_s=5)
        # A correct guess gets the same response.
        assert_limited(await sidecar.get(PATH, headers=good))
        assert (await sidecar.get("/livez", headers=forged)).status_code == 200


@pytest.mark.parametrize("given", [{"rate_burst": 3}, {"rate_limit_per_s": 0}, {"rate_burst": 0}])
def test_invalid_limits_are_rejected(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"http"):
        Settings(http=given)
