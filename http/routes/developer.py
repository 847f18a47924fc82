"""/dev/users: add, change and remove users manually; only with `dev.enabled`.

A state set manually is produced as a refresh, so that it is ordered with all other states.
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
    FRESHNESS_PROBLEMS,
    NOT_READY_PROBLEMS,
    PARTITION_PROBLEMS,
    WRITE_PROBLEMS,
    JsonBody,
    ParsedBody,
    Response,
)
from segments.http.routing.routes import Routes
from segments.telemetry import logs

_POLL_S = 0.02

log = logs.get(__name__)

_APPLIED = Response("The replica has the state.", UserState, headers=FRESH)
_ACCEPTED = Response(
    "Kafka has accepted it; the replica does not have it yet.", UserState, headers=FRESH
)

routes = Routes("developer")


class ReplicaState(BaseModel):
    """Body of PUT /dev/users/{user_id}."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["active", "blocked", "deleted"]


@routes.get(
    "/dev/users/{user_id}",
    role=Role.ADMIN,
    headers=(PREFER, MIN_POSITION),
    responses={200: Response("The state.", UserState, headers=FRESH)},
    problems=((404, "user_unknown"), *PARTITION_PROBLEMS, *FRESHNESS_PROBLEMS),
)
async def show(request: web.Request) -> web.Response:
    """The state of a user in the replica."""
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
    body=JsonBody(ReplicaState, {"blocked": {"state": "blocked"}}),
    headers=(PREFER,),
    responses={200: _APPLIED, 202: _ACCEPTED},
    problems=(*PARTITION_PROBLEMS, *NOT_READY_PROBLEMS, *WRITE_PROBLEMS),
)
async def put(request: web.Request, body: ParsedBody[ReplicaState]) -> web.Response:
    """Add a user or change its state: 200 once the replica has it, 202 if not yet."""
    return await _set(request, requests.user_id(request), body.model.state)


@routes.delete(
    "/dev/users/{user_id}",
    role=Role.ADMIN,
    headers=(PREFER,),
    responses={200: _APPLIED, 202: _ACCEPTED},
    problems=(*PARTITION_PROBLEMS, *NOT_READY_PROBLEMS, *WRITE_PROBLEMS),
)
async def delete(request: web.Request) -> web.Response:
    """Remove a user and all its memberships."""
    return await _set(request, requests.user_id(request), "deleted")


async def _set(request: web.Request, user_id: str, state: str) -> web.Response:
    services = request.app[SERVICES]
    partition = services.partition_of_user(user_id)
    prefer = requests.preference(request)
    await services.producer.refresh(user_id, state)
    log.info("user_state_set", user_id=user_id, state=state, actor=actor(request))
    deadline_s = time.monotonic() + (0.0 if prefer.respond_async else prefer.wait_s)
    while True:
        headers = services.freshness(partition)
        document = services.view.user(user_id)
        applied = document is not None and document["account"] == state
        if applied or time.monotonic() >= deadline_s:
            return requests.json_response(
                {"user_id": user_id, "state": state},
                status=200 if applied else 202,
                headers=headers,
            )
        await asyncio.sleep(_POLL_S)
