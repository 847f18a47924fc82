"""Signed report links: valid without credentials, for exactly the report that they name."""

from __future__ import annotations

import stat
import string
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

import pytest
from multidict import MultiDict

from segments.http.app import operations
from segments.http.auth import signed_links
from segments.http.auth.api_keys import KeysError
from segments.http.auth.signed_links import LinkSigner
from segments.http.problems import Problem
from segments.settings import Settings
from tests.support import credentials
from tests.support.route_requests import TABLE as REQUESTS
from tests.support.route_requests import request
from tests.support.sidecar import Sidecar, assert_problem, entry, running, store

USER = str(UUID(int=1))
SECRET = "s" * 32
PATH = "/v1/reports/2025-02.csv"
ALL = {
    "month": "2025-02",
    "timezone": "Europe/Berlin",
    "segment": "Ä-b",
    "user_id": USER,
    "operations": "all",
    "header": True,
}


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    """A sidecar that requires API keys; the store has a row in February 2025."""
    store(tmp_path, [entry(0, 0, 1_740_000_000_000, USER)])
    key = credentials.api_key(tmp_path, "analyst")
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:
        sidecar.analyst = credentials.header(key)  # type: ignore[attr-defined] # the tests' own
        yield sidecar


async def link(sidecar: Sidecar, **body: Any) -> str:
    """Create a link as an analyst."""
    answer = await sidecar.client.post(
        "/v1/reports",
        json={"month": "2025-02", **body},
        headers=sidecar.analyst,  # type: ignore[attr-defined] # the tests' own
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == answer.json()["url"]
    return str(answer.json()["url"])


def changed(url: str, **parameters: str | None) -> str:
    """The link with some parameters replaced; None removes one."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | parameters
    return parts._replace(
        query=urlencode({name: value for name, value in query.items() if value is not None})
    ).geturl()


async def test_a_link_opens_without_a_header(sidecar: Sidecar) -> None:
    opened = await sidecar.get(await link(sidecar))
    assert opened.status_code == 200
    assert opened.text.startswith(f"{USER};A;add;")
    head = await sidecar.client.head(await link(sidecar))
    assert (head.status_code, head.headers["Segments-Row-Count"]) == (200, "1")


async def test_a_link_with_every_parameter_opens(sidecar: Sidecar) -> None:
    url = await link(sidecar, **ALL)
    opened = await sidecar.get(url)
    assert (opened.status_code, opened.text) == (200, "user;segment;operation;datetime\n")
    # The order of the parameters does not matter.
    parts = urlsplit(url)
    turned = parts._replace(query="&".join(reversed(parts.query.split("&")))).geturl()
    assert (await sidecar.get(turned)).status_code == 200


async def test_every_changed_character_is_rejected(sidecar: Sidecar) -> None:
    url = await link(sidecar, segment="A")
    parts = urlsplit(url)
    verifier = signed_links.create_link_signer(sidecar.services.settings)
    for place, character in enumerate(parts.query):
        for other in sorted(set(string.ascii_letters[::7] + "0_-=&%") - {character}):
            text = parts.query[:place] + other + parts.query[place + 1 :]
            query = MultiDict(parse_qsl(text, keep_blank_values=True))
            if signed_links.is_signed(query):
                with pytest.raises(Problem) as problem:
                    verifier.check(parts.path, query)
                assert problem.value.code == "link_invalid"


async def test_every_other_last_character_of_the_signature_is_rejected(sidecar: Sidecar) -> None:
    """Base64 ignores two bits of the last character, so the text must be compared."""
    url = await link(sidecar)
    signature = dict(parse_qsl(urlsplit(url).query))["signature"]
    for other in set(string.ascii_letters + string.digits + "-_") - {signature[-1]}:
        answer = await sidecar.get(changed(url, signature=signature[:-1] + other))
        assert_problem(answer, 403, "link_invalid")


@pytest.mark.parametrize(
    "others",
    [
        {"segment": "B"},
        {"segment": None},
        {"user_id": USER},
        {"operations": "all"},
        {"header": "true"},
        {"timezone": "Europe/Berlin"},
        {"expires": "99999999999"},
        {"expires": None},
        {"signature": ""},
        {"signature": "x" * 43},
        {"signature": "\u00e4"},
        {"nothing": "1"},
    ],
    ids=str,
)
async def test_changed_parameters_are_rejected(sidecar: Sidecar, others: Any) -> None:
    url = changed(await link(sidecar, segment="A"), **others)
    assert_problem(await sidecar.get(url), 403, "link_invalid")


async def test_a_repeated_parameter_is_rejected(sidecar: Sidecar) -> None:
    url = await link(sidecar, segment="A")
    for more in ("segment=A", "segment=B", "signature=x", "expires=99999999999"):
        assert_problem(await sidecar.get(f"{url}&{more}"), 403, "link_invalid")


async def test_another_month_is_rejected(sidecar: Sidecar) -> None:
    url = await link(sidecar)
    for month in ("2025-03", "2025-2", "../2025-02"):
        answer = await sidecar.get(url.replace("2025-02", month))
        assert answer.status_code in (401, 403), month


async def test_an_expired_link_is_rejected(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await link(sidecar)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 86_399)
    assert (await sidecar.get(url)).status_code == 200
    monkeypatch.setattr(time, "time", lambda: now_s + 86_401)
    assert_problem(await sidecar.get(url), 403, "link_expired")
    # `link_expired` is only returned for a valid signature.
    assert_problem(await sidecar.get(changed(url, expires="1")), 403, "link_invalid")


async def test_a_link_opens_nothing_else(sidecar: Sidecar) -> None:
    query = urlsplit(await link(sidecar)).query
    for key, row in REQUESTS.items():
        # `metrics`: the default of `auth.metrics` is `open`.
        if row.role in ("analyst", "admin") and not row.signed_link:
            path = row.path
            answer = await request(sidecar, key, f"{path}{'&' if '?' in path else '?'}{query}")
            assert_problem(answer, 401, "credentials_missing")
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = await sidecar.client.request(method, f"{PATH}?{query}")
        assert_problem(answer, 401, "credentials_missing")
    linked = [(o.method, o.path) for o in operations(sidecar.services.settings) if o.signed_link]
    assert linked == [("GET", "/v1/reports/{month}.csv")]


async def test_credentials_replace_the_link(sidecar: Sidecar) -> None:
    analyst = sidecar.analyst  # type: ignore[attr-defined] # the tests' own
    assert (await sidecar.get(PATH, headers=analyst)).status_code == 200
    assert_problem(await sidecar.get(PATH), 401, "credentials_missing")
    url = await link(sidecar)
    assert (await sidecar.get(url, headers=analyst)).status_code == 200
    wrong = credentials.header("segk_wrong")
    assert_problem(await sidecar.get(url, headers=wrong), 401, "credentials_invalid")


async def test_another_secret_revokes_every_link(sidecar: Sidecar, tmp_path: Path) -> None:
    url = await link(sidecar)
    (tmp_path / "link.key").unlink()
    again = signed_links.create_link_signer(sidecar.services.settings)
    with pytest.raises(Problem, match="link_invalid"):
        again.check(PATH, MultiDict(parse_qsl(urlsplit(url).query)))


async def test_without_auth_links_are_not_signed(tmp_path: Path) -> None:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        body = {"month": "2025-02", "segment": "A"}
        url = (await sidecar.client.post("/v1/reports", json=body)).json()["url"]
        assert (urlsplit(url).path, urlsplit(url).query) == (PATH, "segment=A")
        assert (await sidecar.get(url)).status_code == 200
    assert not (tmp_path / "link.key").exists()


def test_sidecars_share_a_secret_by_setting_or_by_data_folder(tmp_path: Path) -> None:
    for settings in (
        [Settings(data_dir=tmp_path / name, auth={"link_secret": SECRET}) for name in "ab"],
        [Settings(data_dir=tmp_path / "c")] * 2,
    ):
        one, other = map(signed_links.create_link_signer, settings)
        other.check(PATH, MultiDict(one.sign(PATH, {"segment": "A"})))
    assert not (tmp_path / "a").exists()
    assert stat.S_IMODE((tmp_path / "c" / "link.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["link.key"]


def test_a_secret_file_without_a_secret(tmp_path: Path) -> None:
    (tmp_path / "link.key").write_text("short")
    with pytest.raises(KeysError, match=r"link\.key"):
        signed_links.create_link_signer(Settings(data_dir=tmp_path))


def test_a_signature_for_another_path_is_rejected() -> None:
    signed = LinkSigner(SECRET, 60).sign("/v1/reports/jobs/1", {})
    with pytest.raises(Problem, match="link_invalid"):
        LinkSigner(SECRET, 60).check(PATH, MultiDict(signed))
