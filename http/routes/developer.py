"""/dev/users: users added, changed and removed by hand (U4); only with `dev.enabled`.

A state given by hand takes its place among the refreshes, so that the order of states holds.
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from segments.contracts.responses.service import UserState
from segments.http.auth.roles import Role, actor
from segments.http.context import SERVICES
from segments.http.problems import Problem
from segments.http.routes import requests
from segments.http.routing.headers import FRESH, MIN_POSITION, PREFER
from segments.http.routing.operation import (
    ELSEWHERE,
    FRESHNESS,
    NOT_READY,
    WRITES,
    Answer,
    Body,
    Received,
)
from segments.http.routing.routes import Routes
from segments.telemetry import logs

_POLL_S = 0.02

log = logs.get(__name__)

_SHOWN = Answer("The replica shows it.", UserState, headers=FRESH)
_NOT_SHOWN = Answer("Kafka has it; the replica does not show it yet.", UserState, headers=FRESH)

routes = Routes("developer")


class State(BaseModel):
    """Body of PUT /dev/users/{user_id}."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["active", "blocked", "deleted"]


@routes.get(
    "/dev/users/{user_id}",
    role=Role.ADMIN,
    headers=(PREFER, MIN_POSITION),
    answers={200: Answer("The state.", UserState, headers=FRESH)},
    problems=((404, "user_unknown"), *ELSEWHERE, *FRESHNESS),
)
async def show(request: web.Request) -> web.Response:
    """The replica's state of a user, whatever it is."""
    user_id = requests.user_id(request)
    services = request.app[SERVICES]
    await services.wait_for(requests.min_positions(request), requests.preference(request).wait_s)
    headers = services.freshness(services.partition_of_user(user_id))
    document = services.view.user(user_id)
    if document is None:
        raise Problem(404, "user_unknown", "the user is not in the replica", headers=headers)
    return requests.json_response(
        {"user_id": user_id, "state": document["account"]}, headers=headers
    )


@routes.put(
    "/dev/users/{user_id}",
    role=Role.ADMIN,
    body=Body(State, {"blocked": {"state": "blocked"}}),
    headers=(PREFER,),
    answers={200: _SHOWN, 202: _NOT_SHOWN},
    problems=(*ELSEWHERE, *NOT_READY, *WRITES),
)
async def put(request: web.Request, body: Received[State]) -> web.Response:
    """Add a user, or change its state: 200 once the replica shows it, 202 when it doesn't yet."""
    return await _set(request, requests.user_id(request), body.model.state)


@routes.delete(
    "/dev/users/{user_id}",
    role=Role.ADMIN,
    headers=(PREFER,),
    answers={200: _SHOWN, 202: _NOT_SHOWN},
    problems=(*ELSEWHERE, *NOT_READY, *WRITES),
)
async def delete(request: web.Request) -> web.Response:
    """Remove a user: it holds no segments from then on."""
    return await _set(request, requests.user_id(request), "deleted")


async def _set(request: web.Request, user_id: str, state: str) -> web.Response:
    services = request.app[SERVICES]
    partition = services.partition_of_user(user_id)
    wanted = requests.preference(request)
    await services.writer.refresh(user_id, state)
    log.info("user set by hand", user_id=user_id, state=state, actor=actor(request))
    deadline_s = time.monotonic() + (0.0 if wanted.respond_async else wanted.wait_s)
    while True:
        headers = services.freshness(partition)
        document = services.view.user(user_id)
        shown = document is not None and document["account"] == state
        if shown or time.monotonic() >= deadline_s:
            return requests.json_response(
                {"user_id": user_id, "state": state}, status=200 if shown else 202, headers=headers
            )
        await asyncio.sleep(_POLL_S)
