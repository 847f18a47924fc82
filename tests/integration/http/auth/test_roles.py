"""Access control: every registered route with every kind of credentials.

The roles that routes must need are those of tests/support/route_requests.py.
"""

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
REQUIRED = {
    key: Role.OPEN if row.role == "metrics" else Role(row.role) for key, row in REQUESTS.items()
}
"""The role that each route needs with the default `auth.metrics`, which is `open`."""
ROLES = {"analyst": Role.ANALYST, "admin": Role.ADMIN}
INVALID = ("expired", "forged", "revoked")


class SecuredSidecar(NamedTuple):
    """A sidecar and its credentials by name; None: no Authorization header."""

    sidecar: Sidecar
    credentials: dict[str, str | None]


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
        # The equivalent of revocation: signed with a secret that is no longer in use.
        "revoked": credentials.token("the secret before this one, also long enough"),
    }


@pytest.fixture(params=["keys", "jwt"])
async def secured(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SecuredSidecar]:
    """A sidecar that requires credentials, with the data that the requests refer to."""
    rows: list[StoredRow] = [entry(n % 2, n, 1_740_000_000_000, USER) for n in range(4)]
    store(tmp_path, rows)
    known = (_keys if request.param == "keys" else _tokens)(tmp_path)
    auth = credentials.KEYS if request.param == "keys" else credentials.JWT
    async with running(tmp_path, auth=auth) as sidecar:
        sidecar.define("A")
        sidecar.user(USER, {"A": held(since=1_740_000_000_000)})
        sidecar.result("known")
        yield SecuredSidecar(sidecar, known)


def _registered(sidecar: Sidecar) -> Iterator[tuple[str, str]]:
    for route in build(sidecar.services).router.routes():
        if route.resource is not None and route.method not in ("HEAD", "*"):
            yield route.method, route.resource.canonical


async def test_every_route_has_a_row_and_every_row_a_route(secured: SecuredSidecar) -> None:
    assert set(_registered(secured.sidecar)) == REQUESTS.keys()


@pytest.mark.parametrize("metrics", ["open", "analyst", "admin"])
def test_every_route_declares_the_role_in_the_table(metrics: str) -> None:
    settings = Settings(auth={"metrics": metrics}, dev={"enabled": True})
    declared = {
        (operation.method, operation.path): (
            operation.required_role(settings.auth).value,
            operation.signed_link,
        )
        for operation in operations(settings)
    }
    assert declared == {
        key: (metrics if row.role == "metrics" else row.role, row.signed_link)
        for key, row in REQUESTS.items()
    }


def test_a_route_cannot_be_declared_without_a_role() -> None:
    routes: Any = Routes("users")
    with pytest.raises(TypeError, match="role"):
        routes.get("/v1/anything", responses={})(lambda _request: None)


async def test_every_route_with_every_kind_of_credentials(secured: SecuredSidecar) -> None:
    lines = []  # shown with -s: route, role, status per credential
    for key in sorted(_registered(secured.sidecar), key=lambda key: (key[1], key[0])):
        statuses = {}
        for name, credential in secured.credentials.items():
            response = await _send(secured.sidecar, key, credential)
            statuses[name] = response.status_code
            _check(key, name, response)
        columns = "".join(f"{status:>9}" for status in statuses.values())
        lines.append(f"{key[0]:<7}{key[1]:<42}{REQUIRED[key]:<9}{columns}\n")
    header = "".join(f"{name:>9}" for name in secured.credentials)
    sys.stdout.write(f"\n{'route':<49}{'needs':<9}{header}\n{''.join(lines)}")


async def _send(sidecar: Sidecar, key: tuple[str, str], credential: str | None) -> Any:
    sidecar.client.headers.pop("Authorization", None)
    sidecar.client.headers.update(credentials.header(credential))
    return await request(sidecar, key)


def _check(key: tuple[str, str], name: str, response: Any) -> None:
    needed = REQUIRED[key]
    role = ROLES.get(name, Role.OPEN)
    if role.covers(needed):
        assert response.status_code == REQUESTS[key].status, (key, name, response.text)
        return
    challenge = response.headers["WWW-Authenticate"]
    if name == "none":
        assert_problem(response, 401, "credentials_missing")
        assert challenge == 'Bearer realm="segments"'
    elif name in INVALID:
        assert_problem(response, 401, "credentials_invalid")
        assert challenge.startswith('Bearer realm="segments", error="invalid_token"')
    else:
        assert_problem(response, 403, "role_needed", role=needed)
        assert f'error="insufficient_scope", scope="{needed}"' in challenge


async def test_unauthorized_requests_write_nothing(secured: SecuredSidecar) -> None:
    for name in ("none", "analyst", *INVALID):
        for key, role in REQUIRED.items():
            if role is Role.ADMIN:
                await _send(secured.sidecar, key, secured.credentials[name])
    assert secured.sidecar.producer.sent == []


async def test_head_needs_what_get_needs(secured: SecuredSidecar) -> None:
    for key, role in REQUIRED.items():
        if key[0] != "GET":
            continue
        response = await secured.sidecar.client.head(REQUESTS[key].path)
        assert response.status_code == (200 if role is Role.OPEN else 401), key


async def test_unmatched_requests_are_404_or_405_only_with_credentials(
    secured: SecuredSidecar,
) -> None:
    client = secured.sidecar.client
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("PUT", "/v1/segments", 405),
        ("OPTIONS", "/v1/segments", 405),
    ):
        assert_problem(await client.request(method, path), 401, "credentials_missing")
        headers = credentials.header(secured.credentials["analyst"])
        response = await client.request(method, path, headers=headers)
        assert response.status_code == status, (method, path)


@pytest.mark.parametrize(
    ("needed", "allowed"),
    [
        ("open", ["none", "analyst", "admin"]),
        ("analyst", ["analyst", "admin"]),
        ("admin", ["admin"]),
    ],
)
async def test_metrics_need_the_role_in_the_settings(
    tmp_path: Path, needed: str, allowed: list[str]
) -> None:
    tokens = _tokens(tmp_path)
    async with running(tmp_path, auth={**credentials.JWT, "metrics": needed}) as sidecar:
        for name in ("none", "analyst", "admin"):
            response = await _send(sidecar, METRICS, tokens[name])
            assert (response.status_code == 200) is (name in allowed), name


async def test_without_auth_every_request_is_allowed(tmp_path: Path) -> None:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        for credential in (None, "anything"):
            for key in (("GET", "/v1/segments"), ("POST", "/v1/commands")):
                response = await _send(sidecar, key, credential)
                assert response.status_code == REQUESTS[key].status
