"""Every registered route, with every kind of credentials (A1): admitted as its row says, or not."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from segments.http.app import build, operations
from segments.http.auth.roles import Role
from segments.http.routing.routes import Routes
from segments.settings import Settings
from segments.state.history.protocol import StoredRow
from tests.support import credentials
from tests.support.route_requests import TABLE as REQUESTS
from tests.support.route_requests import USER, request
from tests.support.sidecar import Sidecar, assert_problem, entry, running, store
from tests.support.view.view_records import held

METRICS = ("GET", "/metrics")
DEV = Settings(dev={"enabled": True})
REQUIRED = {
    (operation.method, operation.path): operation.required_role(DEV.auth)
    for operation in operations(DEV)
}
ROLES = {"analyst": Role.ANALYST, "admin": Role.ADMIN}
NOT_GOOD = ("expired", "forged", "revoked")


class Setting(NamedTuple):
    """A sidecar, and credentials of each kind for it; None: none are shown."""

    sidecar: Sidecar
    shown: dict[str, str | None]


def _keys(folder: Path) -> dict[str, str | None]:
    admin = credentials.api_key(folder, "admin")
    past_ms = time.time_ns() // 1_000_000 - 1
    return {
        "none": None,
        "analyst": credentials.api_key(folder, "analyst", name="bi"),
        "admin": admin,
        "expired": credentials.api_key(folder, "admin", expires_ms=past_ms),
        "forged": credentials.forged(admin),
        "revoked": credentials.revoked_key(folder),
    }


def _tokens(_folder: Path) -> dict[str, str | None]:
    return {
        "none": None,
        "analyst": credentials.token(role="analyst"),
        "admin": credentials.token(),
        "expired": credentials.token(exp=int(time.time()) - 3_600),
        "forged": credentials.forged(credentials.token()),
        # As good as revoked: signed with a secret that is in use no more.
        "revoked": credentials.token("the secret before this one, also long enough"),
    }


@pytest.fixture(params=["keys", "jwt"])
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    """What test_routes has, with credentials asked for."""
    rows: list[StoredRow] = [entry(n % 2, n, 1_740_000_000_000, USER) for n in range(4)]
    store(tmp_path, rows)
    shown = (_keys if request.param == "keys" else _tokens)(tmp_path)
    auth = credentials.KEYS if request.param == "keys" else credentials.JWT
    async with running(tmp_path, auth=auth) as sidecar:
        sidecar.define("A")
        sidecar.user(USER, {"A": held(since=1_740_000_000_000)})
        sidecar.result("known")
        yield Setting(sidecar, shown)


def _registered(sidecar: Sidecar) -> Iterator[tuple[str, str]]:
    for route in build(sidecar.services).router.routes():
        if route.resource is not None and route.method not in ("HEAD", "*"):
            yield route.method, route.resource.canonical


async def test_every_route_has_a_row_and_every_row_a_route(setting: Setting) -> None:
    assert set(_registered(setting.sidecar)) == REQUIRED.keys()


def test_a_route_cannot_be_declared_without_a_role() -> None:
    routes: Any = Routes("users")
    with pytest.raises(TypeError, match="role"):
        routes.get("/v1/anything", responses={})(lambda _request: None)


async def test_every_route_with_every_kind_of_credentials(setting: Setting) -> None:
    lines = []
    for key in sorted(_registered(setting.sidecar), key=lambda key: (key[1], key[0])):
        statuses = {}
        for kind, credential in setting.shown.items():
            answer = await _asked(setting.sidecar, key, credential)
            statuses[kind] = answer.status_code
            _check(key, kind, answer)
        shown = "".join(f"{status:>9}" for status in statuses.values())
        lines.append(f"{key[0]:<7}{key[1]:<42}{REQUIRED[key]:<9}{shown}\n")
    kinds = "".join(f"{kind:>9}" for kind in setting.shown)
    sys.stdout.write(f"\n{'route':<49}{'needs':<9}{kinds}\n{''.join(lines)}")


async def _asked(sidecar: Sidecar, key: tuple[str, str], credential: str | None) -> Any:
    sidecar.client.headers.pop("Authorization", None)
    sidecar.client.headers.update(credentials.header(credential))
    return await request(sidecar, key)


def _check(key: tuple[str, str], kind: str, answer: Any) -> None:
    needed = REQUIRED[key]
    has = ROLES.get(kind, Role.OPEN)
    if has.covers(needed):
        assert answer.status_code == REQUESTS[key].status, (key, kind, answer.text)
        return
    challenge = answer.headers["WWW-Authenticate"]
    if kind == "none":
        assert_problem(answer, 401, "credentials_missing")
        assert challenge == 'Bearer realm="segments"'
    elif kind in NOT_GOOD:
        assert_problem(answer, 401, "credentials_invalid")
        assert challenge.startswith('Bearer realm="segments", error="invalid_token"')
    else:
        assert_problem(answer, 403, "role_needed", role=needed)
        assert f'error="insufficient_scope", scope="{needed}"' in challenge


async def test_nothing_is_done_for_who_may_not(setting: Setting) -> None:
    for kind in ("none", "analyst", *NOT_GOOD):
        for key, role in REQUIRED.items():
            if role is Role.ADMIN:
                await _asked(setting.sidecar, key, setting.shown[kind])
    assert setting.sidecar.producer.sent == []


async def test_head_needs_what_get_needs(setting: Setting) -> None:
    for key, role in REQUIRED.items():
        if key[0] != "GET":
            continue
        answer = await setting.sidecar.client.head(REQUESTS[key].path)
        assert answer.status_code == (200 if role is Role.OPEN else 401), key


async def test_what_no_route_takes_is_told_to_the_known_alone(setting: Setting) -> None:
    client = setting.sidecar.client
    for method, path, known in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("PUT", "/v1/segments", 405),
        ("OPTIONS", "/v1/segments", 405),
    ):
        assert_problem(await client.request(method, path), 401, "credentials_missing")
        headers = credentials.header(setting.shown["analyst"])
        answer = await client.request(method, path, headers=headers)
        assert answer.status_code == known, (method, path)


@pytest.mark.parametrize(
    ("needed", "good"),
    [
        ("open", ["none", "analyst", "admin"]),
        ("analyst", ["analyst", "admin"]),
        ("admin", ["admin"]),
    ],
)
async def test_metrics_have_a_setting_of_their_own(
    tmp_path: Path, needed: str, good: list[str]
) -> None:
    shown = _tokens(tmp_path)
    async with running(tmp_path, auth={**credentials.JWT, "metrics": needed}) as sidecar:
        for kind in ("none", "analyst", "admin"):
            answer = await _asked(sidecar, METRICS, shown[kind])
            assert (answer.status_code == 200) is (kind in good), kind


async def test_without_auth_everybody_may(tmp_path: Path) -> None:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        for shown in (None, "anything"):
            for key in (("GET", "/v1/segments"), ("POST", "/v1/commands")):
                answer = await _asked(sidecar, key, shown)
                assert answer.status_code == REQUESTS[key].status
