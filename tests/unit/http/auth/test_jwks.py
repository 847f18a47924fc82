"""Fetching a JWKS: when, how often, and verification while the issuer is unavailable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from joserfc.jwk import ECKey
from structlog.testing import capture_logs

from segments.http.auth import jwks
from segments.http.auth.bearer import InvalidCredentialsError
from segments.http.auth.jwks import NoKeysError, parse
from segments.http.auth.token_verifier import TokenVerifier
from segments.http.problems import Problem
from segments.settings import AuthSettings
from tests.support.credentials import JWT, header, token
from tests.support.sidecar import assert_problem, running

FIRST = ECKey.generate_key("P-256", {"kid": "first"})
SECOND = ECKey.generate_key("P-256", {"kid": "second"})


class Issuer:
    """A JWKS endpoint that counts its requests."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.keys = [FIRST]
        self.status = 200
        self.body: bytes | None = None
        self.holding: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def answer(self, _request: web.Request) -> web.Response:
        self.requests += 1
        if self.holding is not None:
            self.reached.set()
            await self.holding.wait()
        document = {"keys": [key.as_dict(private=False) for key in self.keys]}
        body = json.dumps(document).encode() if self.body is None else self.body
        return web.Response(body=body, status=self.status, headers={"Location": "/elsewhere"})

    def settings(self, **others: Any) -> dict[str, Any]:
        return JWT | {"jwt_secret": None, "jwks_url": self.url, "jwks_refetch_s": 3_600} | others


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    verifier = Issuer()
    app = web.Application()
    app.router.add_get("/jwks", verifier.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    verifier.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    yield verifier
    await runner.cleanup()


@pytest.fixture
async def started(issuer: Issuer) -> AsyncIterator[Any]:
    """A factory of started verifiers; closes them at the end."""
    verifier: list[TokenVerifier] = []

    async def start(**others: Any) -> TokenVerifier:
        verifier.append(TokenVerifier(AuthSettings(**issuer.settings(**others))))
        await verifier[-1].start()
        return verifier[-1]

    yield start
    for each in verifier:
        await each.close()


def age(verifier: TokenVerifier, seconds: float) -> None:
    """Make the wait_for_fetch keys older."""
    assert verifier._source is not None
    verifier._source._attempt_at_s -= seconds
    verifier._source._success_at_s -= seconds


async def wait_for_fetch(verifier: TokenVerifier) -> None:
    """Wait for the running fetch."""
    assert verifier._source is not None
    assert verifier._source._fetching is not None
    await verifier._source._fetching


async def test_keys_are_fetched_once_for_many_tokens(issuer: Issuer, started: Any) -> None:
    verifier = await started()
    for number in range(5):
        assert (await verifier.verify(token(FIRST, sub=f"s{number}"))).name == f"s{number}"
    assert issuer.requests == 1


async def test_an_unknown_key_causes_fetches_at_a_limited_rate(
    issuer: Issuer, started: Any
) -> None:
    verifier = await started()
    issuer.keys = [FIRST, SECOND]
    with pytest.raises(InvalidCredentialsError, match="unknown key"):
        await verifier.verify(token(SECOND))
    assert issuer.requests == 1
    age(verifier, 3_600)
    assert await verifier.verify(token(SECOND))
    for number in range(5):
        with pytest.raises(InvalidCredentialsError, match="unknown key"):
            await verifier.verify(
                token(ECKey.generate_key("P-256", {"kid": f"verifier up {number}"}))
            )
    assert issuer.requests == 2


async def test_concurrent_verifications_share_one_fetch(issuer: Issuer, started: Any) -> None:
    verifier = await started()
    age(verifier, 3_600)
    issuer.keys, issuer.holding = [SECOND], asyncio.Event()
    waiting = [asyncio.create_task(verifier.verify(token(SECOND, sub=f"s{n}"))) for n in range(20)]
    await issuer.reached.wait()
    waiting[0].cancel()  # its client has gone: the others' fetch goes on
    issuer.holding.set()
    await asyncio.wait(waiting)
    assert waiting[0].cancelled()
    assert {(await each).name for each in waiting[1:]} == {f"s{n}" for n in range(1, 20)}
    assert issuer.requests == 2


async def test_old_keys_are_refreshed_in_the_background(issuer: Issuer, started: Any) -> None:
    verifier = await started(jwks_max_age_s=600, jwks_refetch_s=1)
    shown = token(FIRST)
    assert await verifier.verify(shown)
    age(verifier, 601)
    issuer.keys = [SECOND]
    assert await verifier.verify(shown)
    await wait_for_fetch(verifier)
    with pytest.raises(InvalidCredentialsError, match="unknown key"):
        await verifier.verify(shown)
    assert await verifier.verify(token(SECOND))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (404, None),
        (302, None),
        (200, b"not json"),
        (200, b"[]"),
        (200, b'{"keys": []}'),
        (200, b'{"keys": {"kty": "EC"}}'),
        (200, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'),
        (200, b'{"keys": [{"kty": ["EC"]}]}'),
        (200, b" " * (jwks.MAX_BYTES + 1)),
    ],
    ids=str,
)
async def test_loaded_keys_stay_in_use_when_a_refresh_fails(
    issuer: Issuer, started: Any, status: int, body: bytes | None
) -> None:
    verifier = await started(jwks_max_age_s=600, jwks_refetch_s=1)
    issuer.status, issuer.body = status, body
    with capture_logs() as logged:
        for number in range(3):
            age(verifier, 601)
            assert await verifier.verify(token(FIRST, sub=f"s{number}"))
            await wait_for_fetch(verifier)
    assert issuer.requests == 4
    # Logged once, not with each attempt.
    assert [entry["log_level"] for entry in logged] == ["error"]


async def test_a_hanging_issuer_does_not_block_verification(issuer: Issuer, started: Any) -> None:
    issuer.holding = asyncio.Event()
    verifier = await started(jwks_timeout_s=1.0)
    with pytest.raises(Problem) as problem:
        await verifier.verify(token(FIRST))
    assert (problem.value.status, problem.value.code) == (503, "keys_unavailable")
    assert issuer.requests == 1
    issuer.holding.set()
    age(verifier, 3_600)
    assert await verifier.verify(token(FIRST))


async def test_without_keys_the_sidecar_returns_503_except_for_open_routes(
    issuer: Issuer, tmp_path: Any
) -> None:
    issuer.status = 503
    async with running(tmp_path, auth=issuer.settings(jwks_refetch_s=0.1)) as sidecar:
        answer = await sidecar.get("/v1/segments", headers=header(token(FIRST)))
        assert_problem(answer, 503, "keys_unavailable")
        assert answer.headers["Retry-After"] == "5"
        assert (await sidecar.get("/livez")).status_code == 200
        issuer.status = 200
        while answer.status_code == 503:
            answer = await sidecar.get("/v1/segments", headers=header(token(FIRST)))
        assert answer.status_code == 200


def test_unusable_keys_are_skipped() -> None:
    good = FIRST.as_dict(private=True)
    spoiled = [
        {"kty": "EC", "crv": "P-256", "kid": "no point"},
        {"kty": "RSA", "n": "AQAB", "e": 5, "kid": "no number"},
        {"kty": "AKP", "kid": "of another kind"},
        {**SECOND.as_dict(private=False), "use": "enc"},
        "text",
        None,
        {},
    ]
    found = parse(json.dumps({"keys": [*spoiled, good]}).encode())
    assert [key.kid for key in found.keys] == ["first"]
    assert not found.keys[0].is_private


@pytest.mark.parametrize(
    "document", [{}, [], 1, {"keys": [{}] * 1_001}], ids=["object", "list", "number", "many"]
)
def test_invalid_key_sets(document: Any) -> None:
    with pytest.raises(NoKeysError):
        parse(json.dumps(document).encode())
