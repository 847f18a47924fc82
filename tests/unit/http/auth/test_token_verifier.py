"""Valid JSON Web Tokens, and every way in which one is invalid (RFC 8725)."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from segments.http.auth import token_verifier
from segments.http.auth.bearer import InvalidCredentialsError
from segments.http.auth.roles import Role
from segments.http.auth.token_verifier import TokenVerifier
from segments.settings import AuthSettings
from tests.support.credentials import JWT, SECRET, claims, token

RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"})
OTHER_EC = ECKey.generate_key("P-256", {"kid": "ec-1"})
PUBLIC = {"keys": [RSA.as_dict(private=False), EC.as_dict(private=False)]}
INSTANTS = ("exp", "nbf", "iat")


def as_of_now(others: dict[str, Any]) -> dict[str, Any]:
    """Claims whose timestamps are seconds from now."""
    now_s = int(time.time())
    return {
        name: now_s + value if name in INSTANTS and type(value) is int else value
        for name, value in others.items()
    }


def verifier(**settings: Any) -> TokenVerifier:
    return TokenVerifier(AuthSettings(**JWT | settings))


@pytest.fixture
async def by_keys(tmp_path: Any) -> TokenVerifier:
    """Verifies with the public keys of a file."""
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(PUBLIC))
    made = verifier(jwt_secret=None, jwks_file=file)
    await made.start()
    return made


async def reason(made: TokenVerifier, shown: str) -> str:
    """Why a token is rejected; AssertionError if it is accepted."""
    with pytest.raises(InvalidCredentialsError) as refused:
        await made.verify(shown)
    return str(refused.value)


async def test_a_token_signed_with_the_secret() -> None:
    subject = await verifier().verify(token())
    assert (subject.name, subject.role, subject.key_id) == ("shop", Role.ADMIN, None)


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
async def test_a_token_signed_with_a_key_of_the_set(by_keys: TokenVerifier, key: Any) -> None:
    assert (await by_keys.verify(token(key, role="analyst"))).role is Role.ANALYST


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"exp": -31}, "expired"),
        ({"exp": None}, "lacks exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"nbf": 3_600}, "nbf"),
        ({"iat": 3_600}, "iat"),
        ({"iss": "https://other.example"}, "iss"),
        ({"iss": None}, "lacks iss"),
        ({"iss": ["https://issuer.example"]}, "iss"),
        ({"aud": "shop"}, "aud"),
        ({"aud": ["shop", "web"]}, "aud"),
        ({"aud": None}, "lacks aud"),
        ({"aud": ""}, "aud"),
        ({"aud": {"segments": 1}}, "aud"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": 7}, "sub"),
        ({"sub": "x" * 129}, "subject"),
        ({"sub": "line\nbreak"}, "subject"),
        ({"role": None}, "role"),
        ({"role": "root"}, "role"),
        ({"role": "Admin"}, "role"),
        ({"role": {"admin": True}}, "role"),
        ({"role": ["root", 7, None]}, "role"),
    ],
    ids=str,
)
async def test_invalid_claims(others: dict[str, Any], why: str) -> None:
    assert why in await reason(verifier(), token(**as_of_now(others)))


@pytest.mark.parametrize(
    "others",
    [
        {"exp": -10},
        {"nbf": 10},
        {"exp": 10**400},
        {"aud": ["web", "segments"]},
        {"role": ["analyst", "admin", "root"]},
        {"unknown": {"to": ["us"]}},
    ],
    ids=json.dumps,
)
async def test_valid_claims(others: dict[str, Any]) -> None:
    assert (await verifier().verify(token(**as_of_now(others)))).role is Role.ADMIN


async def test_a_token_without_expiry_where_that_is_allowed() -> None:
    assert await verifier(require_exp=False).verify(token(exp=None))
    assert "expired" in await reason(
        verifier(require_exp=False), token(exp=int(time.time()) - 3_600)
    )


async def test_other_claims_for_subject_and_role() -> None:
    made = verifier(
        subject_claim="client_id",
        role_claim="realm_access.roles",
        roles={"segments-admin": "admin", "segments-read": "analyst"},
    )
    shown = token(client_id="bi", realm_access={"roles": ["x", "segments-read"]})
    assert (await made.verify(shown)).role is Role.ANALYST
    assert "role" in await reason(made, token(client_id="bi", role="admin"))
    named = verifier(role_claim="https://example.com/role")
    named_role: dict[str, Any] = {"https://example.com/role": "admin"}
    assert await named.verify(token(**named_role))


def _part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unsigned(header: Any, payload: Any = None, signature: str = "") -> str:
    return f"{_part(header)}.{_part(payload or claims())}.{signature}"


@pytest.mark.parametrize("word", ["none", "None", "NONE", "nOnE", "", "HS256", "HS512", "XS1", 7])
async def test_the_algorithm_none(by_keys: TokenVerifier, word: Any) -> None:
    for made in (verifier(), by_keys):
        await reason(made, unsigned({"alg": word}))
        await reason(made, unsigned({"alg": word, "kid": "rsa-1"}))


async def test_a_public_key_is_not_accepted_as_a_secret(by_keys: TokenVerifier) -> None:
    """Key confusion: HS256 with the public RSA key as its secret."""
    for public in (
        RSA.as_pem(private=False),
        json.dumps(RSA.as_dict(private=False)).encode(),
        json.dumps(PUBLIC).encode(),
    ):
        head = {"alg": "HS256", "kid": "rsa-1"}
        signing = f"{_part(head)}.{_part(claims())}"
        made = hmac.digest(public, signing.encode(), "sha256")
        shown = f"{signing}.{_part(made)}"
        await reason(by_keys, shown)


async def test_a_secret_among_public_keys_verifies_nothing(tmp_path: Any) -> None:
    secret = OctKey.import_key(SECRET, {"kid": "oct-1"})
    file = tmp_path / "jwks.json"
    document = {"keys": [secret.as_dict(private=True), *PUBLIC["keys"]]}
    file.write_text(json.dumps(document))
    made = verifier(jwt_secret=None, jwks_file=file)
    await made.start()
    await reason(made, token(header={"kid": "oct-1"}))
    assert await made.verify(token(RSA))


async def test_a_key_verifies_only_its_own_algorithm(by_keys: TokenVerifier) -> None:
    for signing, kid in ((EC, "rsa-1"), (RSA, "ec-1"), (OTHER_EC, "ec-1")):
        assert "is invalid" in await reason(by_keys, token(signing, header={"kid": kid}))
    assert "is invalid" in await reason(
        verifier(), token("another secret, just as long as that one")
    )


async def test_an_algorithm_that_is_not_allowed(tmp_path: Any) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(PUBLIC))
    made = verifier(jwt_secret=None, jwks_file=file, algorithms=["ES256"])
    await made.start()
    assert await made.verify(token(EC))
    await reason(made, token(RSA))


async def test_a_key_id_is_required_with_several_keys(by_keys: TokenVerifier) -> None:
    nameless = ECKey.import_key({k: v for k, v in EC.as_dict(private=True).items() if k != "kid"})
    assert "unknown key" in await reason(by_keys, token(nameless))
    assert "unknown key" in await reason(by_keys, token(EC, header={"kid": "ec-9"}))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["made-up"], "made-up": 1},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
        {"crit": 5},
        {"crit": [{}]},
        {"typ": 7},
    ],
    ids=json.dumps,
)
async def test_unknown_critical_headers(header: dict[str, Any]) -> None:
    head = {"alg": "HS256", **header}
    signing = f"{_part(head)}.{_part(claims())}"
    signed = hmac.digest(SECRET.encode(), signing.encode(), "sha256")
    await reason(verifier(), f"{signing}.{_part(signed)}")


async def test_unknown_headers_are_ignored() -> None:
    head = {"alg": "HS256", "nonce": "x"}
    signing = f"{_part(head)}.{_part(claims())}"
    signed = hmac.digest(SECRET.encode(), signing.encode(), "sha256")
    assert await verifier().verify(f"{signing}.{_part(signed)}")


@pytest.mark.parametrize(
    "shown",
    [
        "x",
        "a.b",
        "a.b.c",
        "..",
        "a.b.c.d.e",
        f"{_part([])}.{_part({})}.x",
        f"{_part(b'[' * 5_000)}.{_part({})}.x",
        f"{_part(b'{' * 3_000)}.{_part({})}.x",
        f"{_part({'alg': ['HS256']})}.{_part({})}.x",
        f"{_part({'alg': {}})}.{_part({})}.x",
        f"{_part({'alg': 'HS256', 'kid': {}})}.{_part({})}.x",
        f"{_part({'alg': 'HS256'})}.{_part(b'null')}.x",
        f"{_part({'alg': 'HS256'})}.{_part({})}.\u00e4",
    ],
    ids=range(13),
)
async def test_malformed_tokens(by_keys: TokenVerifier, shown: str) -> None:
    for made in (verifier(), by_keys):
        await reason(made, shown)


@pytest.mark.parametrize("payload", [b"null", b"[]", b'"x"', b"[" * 5_000, b"{", b"\xff"])
async def test_a_payload_that_is_not_an_object(payload: bytes) -> None:
    signing = f"{_part({'alg': 'HS256'})}.{_part(payload)}"
    signed = hmac.digest(SECRET.encode(), signing.encode(), "sha256")
    await reason(verifier(), f"{signing}.{_part(signed)}")


async def test_the_reason_does_not_contain_the_token() -> None:
    spoiled: list[dict[str, Any]] = [{"sub": "s3cr3t" * 40}, {"role": "s3cr3t"}, {"iss": "s3cr3t"}]
    for others in spoiled:
        assert "s3cr3t" not in await reason(verifier(), token(**others))


async def test_a_token_is_not_cached_beyond_its_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    end_s = int(time.time()) + 1_000
    made, shown = verifier(leeway_s=0), token(exp=end_s)
    assert await made.verify(shown)
    monkeypatch.setattr(time, "time", lambda: float(end_s))
    assert "expired" in await reason(made, shown)


async def test_the_token_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_verifier, "CACHE_MAX", 3)
    made = verifier()
    for number in range(10):
        assert (await made.verify(token(sub=f"s{number}"))).name == f"s{number}"
    assert len(made._cache) == 3


async def test_a_token_signed_with_a_removed_key(tmp_path: Any) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(PUBLIC))
    made = verifier(jwt_secret=None, jwks_file=file)
    await made.start()
    shown = token(EC)
    assert await made.verify(shown)
    file.write_text(json.dumps({"keys": [RSA.as_dict(private=False)]}))
    made._source._attempt_at_s = 0.0  # type: ignore[union-attr] # a second has gone by
    assert "unknown key" in await reason(made, shown)
