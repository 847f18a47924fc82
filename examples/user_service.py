"""An example user service for trying the segmentation service; users are generated from a seed.

    python examples/user_service.py --port 8090 --users 1000

    GET    /users              ids of all users, one per line
    GET    /users/{id}         {"id", "state", "version"} or 404
    PUT    /users/{id}         {"state": "active" | "blocked"} creates or changes a user
    DELETE /users/{id}         deletes a user
    GET    /stats              {"calls": GETs of users so far, "by_user": {id: calls}}
    POST   /faults             sets a fault; an empty body clears all faults

A fault, for all users or for the one with the id `user`:

    {"user": id?, "delay_ms": 0, "status": 503?, "retry_after": "5"?,
     "answer": "garbage" | "wrong_id" | "huge" | "redirect" | "unknown_state"?}
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import uuid
from typing import Any

from aiohttp import web

HUGE_BYTES = 10_000_000


class Users:
    """The users, their faults, and the number of GETs of each."""

    def __init__(self, count: int, seed: int) -> None:
        numbers = random.Random(seed)
        self.records: dict[str, dict[str, Any]] = {}
        for _ in range(count):
            self.put(str(uuid.UUID(int=numbers.getrandbits(128), version=4)), "active")
        self.faults: dict[str | None, dict[str, Any]] = {}
        self.calls: collections.Counter[str] = collections.Counter()

    def put(self, user_id: str, state: str) -> dict[str, Any]:
        version = self.records.get(user_id, {"version": 0})["version"] + 1
        self.records[user_id] = {"id": user_id, "state": state, "version": version}
        return self.records[user_id]

    def fault_of(self, user_id: str) -> dict[str, Any]:
        return self.faults.get(user_id) or self.faults.get(None) or {}


USERS = web.AppKey("users", Users)


async def get_user(request: web.Request) -> web.StreamResponse:
    users = request.app[USERS]
    user_id = request.match_info["id"]
    users.calls[user_id] += 1
    fault = users.fault_of(user_id)
    await asyncio.sleep(fault.get("delay_ms", 0) / 1000)
    headers = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
    if "status" in fault:
        return web.Response(status=fault["status"], headers=headers)
    record = users.records.get(user_id)
    if record is None:
        raise web.HTTPNotFound
    match fault.get("answer"):
        case "garbage":
            return web.Response(body=b"\x00\xff{not json", content_type="application/json")
        case "wrong_id":
            return web.json_response(record | {"id": str(uuid.uuid4())})
        case "huge":
            return web.json_response(record | {"padding": "x" * HUGE_BYTES})
        case "redirect":
            raise web.HTTPFound("/users/elsewhere")
        case "unknown_state":
            return web.json_response(record | {"state": "hibernating"})
    return web.json_response(record)


async def put_user(request: web.Request) -> web.Response:
    body = await request.json()
    if body.get("state") not in ("active", "blocked"):
        raise web.HTTPBadRequest(text="state must be active or blocked")
    return web.json_response(request.app[USERS].put(request.match_info["id"], body["state"]))


async def delete_user(request: web.Request) -> web.Response:
    request.app[USERS].records.pop(request.match_info["id"], None)
    return web.Response(status=204)


async def list_users(request: web.Request) -> web.Response:
    return web.Response(text="".join(f"{user}\n" for user in request.app[USERS].records))


async def get_stats(request: web.Request) -> web.Response:
    calls = request.app[USERS].calls
    return web.json_response({"calls": calls.total(), "by_user": calls})


async def post_faults(request: web.Request) -> web.Response:
    users = request.app[USERS]
    body = await request.text()
    if body.strip():
        fault = json.loads(body)
        users.faults[fault.pop("user", None)] = fault
    else:
        users.faults.clear()
    return web.Response(status=204)


def make_app(count: int, seed: int) -> web.Application:
    app = web.Application()
    app[USERS] = Users(count, seed)
    app.add_routes(
        [
            web.get("/users", list_users),
            web.get("/users/{id}", get_user),
            web.put("/users/{id}", put_user),
            web.delete("/users/{id}", delete_user),
            web.get("/stats", get_stats),
            web.post("/faults", post_faults),
        ]
    )
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="An example user service.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--users", type=int, default=1000, help="initial number of users")
    parser.add_argument("--seed", type=int, default=1, help="the same seed generates the same ids")
    arguments = parser.parse_args()
    app = make_app(arguments.users, arguments.seed)
    web.run_app(app, host=arguments.host, port=arguments.port, access_log=None)


if __name__ == "__main__":
    main()
