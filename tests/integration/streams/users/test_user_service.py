"""HTTP client of the user service against a real server."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from examples.user_service import USERS, make_app
from segments.settings import UserServiceSettings
from segments.streams.refresh.user_service import FetchedAccount, FetchError, UserServiceClient

CONCURRENCY = 2
TIMEOUT_MS = 50
DRIP_TIMEOUT_MS = 1_000


async def test_timeouts_and_abandoned_fetches_do_not_leak_connections() -> None:
    app = make_app(count=8 * CONCURRENCY, seed=1)
    async with TestServer(app) as server:
        client = UserServiceClient(_settings(server, TIMEOUT_MS))
        try:
            await _give_up_many(app, client)
            users = list(app[USERS].records)
            accounts = [await _fetch(client, user) for user in users]
        finally:
            await client.close()
    assert [account.state for account in accounts] == ["active"] * len(users)


async def _fetch(client: UserServiceClient, user: str) -> FetchedAccount:
    """As long as it may take on a busy machine; without a usable connection it never comes."""
    for _ in range(50):
        try:
            return await client.fetch(user)
        except FetchError:
            continue
    raise AssertionError(f"no connection was left to ask about {user}")


async def _give_up_many(app: web.Application, client: UserServiceClient) -> None:
    users = list(app[USERS].records)
    app[USERS].faults[None] = {"delay_ms": 5 * TIMEOUT_MS}
    for number in range(50):
        # All time out together, those that wait for a connection with those that have one.
        asked = [asyncio.create_task(client.fetch(user)) for user in users]
        if number % 2:
            await asyncio.wait(asked, timeout=TIMEOUT_MS / 1000 / 2)
            for fetch in asked[::2]:
                fetch.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    app[USERS].faults.clear()


async def test_a_slow_drip_response_times_out() -> None:
    given_up = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" ")
                await asyncio.sleep(DRIP_TIMEOUT_MS / 1000 / 10)
        finally:
            given_up.set()

    app = web.Application()
    app.add_routes([web.get("/users/{id}", drip)])
    async with TestServer(app) as server:
        client = UserServiceClient(_settings(server, DRIP_TIMEOUT_MS))
        try:
            with pytest.raises(FetchError, match="timeout"):
                await client.fetch("00000000-0000-4000-8000-000000000001")
            # Nobody reads on: its connection is closed.
            await asyncio.wait_for(given_up.wait(), 60)
        finally:
            await client.close()


def _settings(server: BaseTestServer, timeout_ms: int) -> UserServiceSettings:
    return UserServiceSettings(
        base_url=str(server.make_url("")), timeout_ms=timeout_ms, concurrency=CONCURRENCY
    )
