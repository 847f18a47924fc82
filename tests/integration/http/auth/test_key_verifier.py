"""API keys: the key file, reloading it while the sidecar runs, and rejected credentials."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import stat
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from segments.http.auth import api_keys, key_verifier
from segments.http.auth.bearer import InvalidCredentialsError
from segments.http.auth.key_verifier import KeyVerifier
from segments.http.auth.roles import Role
from segments.settings import Settings
from tests.support import credentials
from tests.support.sidecar import running


@pytest.fixture(autouse=True)
def _check_file_on_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of the key file take effect with the next request."""
    monkeypatch.setattr(key_verifier, "CHECK_INTERVAL_S", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
async def verifier(tmp_path: Path) -> KeyVerifier:
    made = KeyVerifier(Settings(data_dir=tmp_path))
    await made.start()
    return made


async def is_accepted(verifier: KeyVerifier, key: str) -> bool:
    try:
        await verifier.verify(key)
    except InvalidCredentialsError:
        return False
    return True


def put(file: Path, content: bytes | None) -> None:
    """Replace the file, or remove it."""
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def content_of(file: Path) -> bytes:
    return file.read_bytes()


def test_a_key_can_be_found_by_scanners_and_has_256_random_bits(tmp_path: Path) -> None:
    made = {credentials.api_key(tmp_path) for _ in range(20)}
    assert all(re.fullmatch(r"segk_[0-9a-f]{12}_[0-9a-f]{64}", key) for key in made)
    assert len({key.rpartition("_")[2] for key in made}) == 20


def test_the_file_contains_no_key_and_is_readable_by_its_owner_only(
    tmp_path: Path, file: Path
) -> None:
    clear = credentials.api_key(tmp_path)
    text = file.read_text()
    assert clear not in text
    assert clear.rpartition("_")[2] not in text
    file.chmod(0o644)
    credentials.api_key(tmp_path)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert {path.name for path in tmp_path.iterdir()} == {"keys.json", "keys.json.lock"}


def _create_keys(folder: Path) -> None:
    for _ in range(5):
        credentials.api_key(folder)


def test_concurrent_writers_lose_no_keys(tmp_path: Path, file: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_create_keys, tmp_path) for _ in range(3)]:
            done.result(timeout=60)
    assert len(api_keys.load(file)) == 15


@pytest.mark.parametrize("name", ["", "x" * 129, "line\nbreak"])
def test_a_name_that_cannot_be_an_actor_is_rejected(tmp_path: Path, file: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        credentials.api_key(tmp_path, name=name)
    assert not file.exists()


def test_revoking_by_name_removes_all_its_keys_and_by_id_one(tmp_path: Path, file: Path) -> None:
    first, second = (credentials.api_key(tmp_path, name="bi") for _ in range(2))
    other = credentials.api_key(tmp_path, name="shop")
    assert [key.id for key in api_keys.revoke(file, first.split("_")[1])] == [first.split("_")[1]]
    assert [key.id for key in api_keys.load(file)] == [k.split("_")[1] for k in (second, other)]
    api_keys.revoke(file, "bi")
    assert [key.name for key in api_keys.load(file)] == ["shop"]
    with pytest.raises(api_keys.KeysError, match="'bi'"):
        api_keys.revoke(file, "bi")


async def test_a_running_sidecar_applies_created_and_revoked_keys(tmp_path: Path) -> None:
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:

        async def status(key: str) -> int:
            headers = credentials.header(key)
            return (await sidecar.get("/v1/segments", headers=headers)).status_code

        old = credentials.api_key(tmp_path, name="bi")
        assert await status(old) == 200
        new = credentials.api_key(tmp_path, name="bi")
        assert [await status(old), await status(new)] == [200, 200]
        api_keys.revoke(tmp_path / "keys.json", old.split("_")[1])
        assert [await status(old), await status(new)] == [401, 200]


async def test_the_file_is_checked_at_intervals(
    tmp_path: Path, verifier: KeyVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_verifier, "CHECK_INTERVAL_S", 3_600.0)
    key = credentials.api_key(tmp_path)
    assert not await is_accepted(verifier, key)
    monkeypatch.setattr(key_verifier, "CHECK_INTERVAL_S", 0.0)
    assert await is_accepted(verifier, key)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"{}",
        b'{"version": 2, "keys": []}',
        b'{"version": 1, "keys": [{"id": "x"}]}',
        b"x" * (api_keys.FILE_MAX_BYTES + 1),
        None,
    ],
    ids=["empty", "no JSON", "no keys", "another version", "wrong key", "too large", "removed"],
)
async def test_a_broken_file_keeps_the_loaded_keys_and_is_logged(
    tmp_path: Path, file: Path, verifier: KeyVerifier, content: bytes | None
) -> None:
    key = credentials.api_key(tmp_path)
    assert await is_accepted(verifier, key)
    good = content_of(file)
    with capture_logs() as logged:
        put(file, content)
        assert await is_accepted(verifier, key)
        assert await is_accepted(verifier, key)
    assert [entry["log_level"] for entry in logged] == ["error"]
    put(file, good)
    api_keys.revoke(file, "ops")
    assert not await is_accepted(verifier, key)


@pytest.mark.parametrize("content", [b"not json", b'{"version": 1}'])
async def test_a_sidecar_does_not_start_with_a_broken_file(
    tmp_path: Path, file: Path, content: bytes
) -> None:
    put(file, content)
    with pytest.raises(api_keys.KeysError, match=r"keys\.json"):
        await KeyVerifier(Settings(data_dir=tmp_path)).start()


def test_a_file_with_a_duplicate_id_is_broken(tmp_path: Path, file: Path) -> None:
    credentials.api_key(tmp_path)
    document = json.loads(file.read_text())
    document["keys"] *= 2
    file.write_text(json.dumps(document))
    with pytest.raises(api_keys.KeysError, match="more than once"):
        api_keys.load(file)


async def test_a_key_expires_at_its_timestamp(
    tmp_path: Path, verifier: KeyVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = time.time_ns() // 1_000_000
    key = credentials.api_key(tmp_path, expires_ms=now_ms + 60_000)
    subject = await verifier.verify(key)
    assert (subject.name, subject.role, subject.key_id) == ("ops", Role.ADMIN, key.split("_")[1])
    monkeypatch.setattr(time, "time_ns", lambda: (now_ms + 60_000) * 1_000_000)
    assert not await is_accepted(verifier, key)


async def test_unknown_revoked_and_expired_keys_get_the_same_response(tmp_path: Path) -> None:
    good = credentials.api_key(tmp_path)
    past = credentials.api_key(tmp_path, expires_ms=1)
    shown = [
        past,
        credentials.revoked_key(tmp_path),
        credentials.forged(good),
        f"segk_{'0' * 12}_{'0' * 64}",
        good.upper(),
        good[:-1],
        "hello",
        "eyJhbGciOiJub25lIn0.e30.",
    ]
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:
        answers = [
            await sidecar.get("/v1/segments", headers=credentials.header(key)) for key in shown
        ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    told = [{**answer.headers, "date": ""} for answer in answers]
    assert all(headers == told[0] for headers in told)


async def test_every_key_is_hashed_and_compared_whether_it_is_known_or_not(
    tmp_path: Path, verifier: KeyVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    good = credentials.api_key(tmp_path)
    for key in (good, credentials.forged(good), f"segk_{'0' * 12}_{'0' * 64}", "x"):
        await is_accepted(verifier, key)
    assert compared == [(32, 32)] * 4


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("", "credentials_missing"),
        ("Basic b3BzOm9wcw==", "credentials_missing"),
        ("Bearer", "credentials_invalid"),
        ("Bearer two words", "credentials_invalid"),
        ("Bearer k\u00e4y", "credentials_invalid"),
        ('Bearer "quoted"', "credentials_invalid"),
    ],
)
async def test_malformed_authorization_headers(tmp_path: Path, shown: str, code: str) -> None:
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:
        answer = await sidecar.get("/v1/segments", headers={"Authorization": shown.encode()})
        assert (answer.status_code, answer.json()["code"]) == (401, code)


async def test_the_scheme_is_case_insensitive(tmp_path: Path) -> None:
    key = credentials.api_key(tmp_path)
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:
        for shown in (f"bearer {key}", f"BEARER   {key}"):
            answer = await sidecar.get("/v1/segments", headers={"Authorization": shown})
            assert answer.status_code == 200
        two = [("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}")]
        answer = await sidecar.get("/v1/segments", headers=two)
        assert answer.json()["code"] == "credentials_invalid"


async def test_many_requests_while_keys_change(tmp_path: Path) -> None:
    key = credentials.api_key(tmp_path, name="stays")
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:
        stop = asyncio.Event()

        def change() -> None:
            for number in range(20):
                credentials.api_key(tmp_path, name=f"comes {number}")
                api_keys.revoke(tmp_path / "keys.json", f"comes {number}")

        async def ask() -> set[int]:
            found = set()
            while not stop.is_set():
                headers = credentials.header(key)
                found.add((await sidecar.get("/v1/segments", headers=headers)).status_code)
            return found

        asking = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.to_thread(change)
        stop.set()
        assert await asyncio.gather(*asking) == [{200}] * 3
