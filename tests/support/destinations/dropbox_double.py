"""A double of Dropbox's API for upload sessions and shared links, over HTTP on loopback.

The first part of the path is the host at Dropbox. Offsets, hashes and tokens are checked and
rejected as Dropbox does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from aiohttp import web

ACCESS_TOKEN = "sl.access-token-of-the-test"
REFRESH_TOKEN = "refresh-token-of-the-test"
APP_KEY, APP_SECRET = "appkey", "app-secret-of-the-test"
_BLOCK_BYTES = 4 * 1024 * 1024
_MAX_REQUEST_BYTES = 150 * 1024 * 1024


def content_hash(body: bytes) -> str:
    """As https://www.dropbox.com/developers/reference/content-hash says."""
    blocks = [body[i : i + _BLOCK_BYTES] for i in range(0, len(body), _BLOCK_BYTES)]
    return hashlib.sha256(b"".join(hashlib.sha256(b).digest() for b in blocks)).hexdigest()


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # Without a charset: the SDK insists on just these words.
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        headers=headers,
        content_type="application/json",
    )


class Refused(Exception):  # noqa: N818 - in Dropbox's words
    """409 with an error of the route."""


class DropboxDouble:
    """Files by path, upload sessions by id, and the failures to simulate."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.sessions: dict[str, bytearray] = {}
        self.links: dict[str, str] = {}
        self.tokens = {ACCESS_TOKEN}
        self.requests: list[str] = []
        self.failures: list[tuple[str, str]] = []
        """(end of a route, what to do), each once: a status, `cut`, `lost`, `stall`, `full`."""
        self.stalled = asyncio.Event()
        self._numbers = count(1)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        app.router.add_post("/api.dropboxapi.com/oauth2/token", self._token)
        app.router.add_post("/{host}/2/{route:.*}", self._route)
        return app

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        known = (form.get("refresh_token"), form.get("client_id"), form.get("client_secret"))
        if known != (REFRESH_TOKEN, APP_KEY, APP_SECRET):
            return _json({"error": "invalid_grant"}, status=400)
        token = f"sl.short-lived-{next(self._numbers)}"
        self.tokens.add(token)
        return _json({"access_token": token, "expires_in": 14_400})

    async def _route(self, request: web.Request) -> web.StreamResponse:
        route = request.match_info["route"]
        self.requests.append(route)
        failure = next((each for each in self.failures if route.endswith(each[0])), None)
        what = ""
        if failure is not None:
            self.failures.remove(failure)
            what = failure[1]
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            error = {".tag": "invalid_access_token"}
            return _json({"error_summary": "…", "error": error}, status=401)
        body = await request.read()
        if (early := await self._failed(request, what)) is not None:
            return early
        try:
            answer = self._done(request, route, body, what)
        except Refused as error:
            error_body = error.args[0]
            return _json({"error_summary": "…", "error": error_body}, status=409)
        if what == "lost":
            # The request was executed, but its response is lost.
            return web.Response(status=500)
        return _json(answer)

    async def _failed(self, request: web.Request, what: str) -> web.StreamResponse | None:
        if what == "429":
            body = {"error": {"reason": {".tag": "too_many_requests"}, "retry_after": 0}}
            return _json(body, status=429, headers={"Retry-After": "0"})
        if what.isdigit():
            return web.Response(status=int(what), text="no")
        if what == "cut":
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionResetError
        if what == "stall":
            self.stalled.set()
            await asyncio.sleep(3600)
        return None

    def _done(self, request: web.Request, route: str, body: bytes, what: str) -> Any:
        host = request.match_info["host"]
        if route.startswith("files/upload_session/"):
            assert host == "content.dropboxapi.com", host
            arguments = json.loads(request.headers["Dropbox-API-Arg"])
            if "content_hash" in arguments and arguments["content_hash"] != content_hash(body):
                raise Refused({".tag": "content_hash_mismatch"})
            return getattr(self, "_" + route.rpartition("/")[2])(arguments, body, what)
        assert host == "api.dropboxapi.com", host
        return getattr(self, "_" + route.rpartition("/")[2])(json.loads(body))

    def _start(self, _: Any, body: bytes, __: str) -> Any:
        session_id = f"session-{next(self._numbers)}"
        self.sessions[session_id] = bytearray(body)
        return {"session_id": session_id}

    def _append_v2(self, arguments: Any, body: bytes, _: str) -> None:
        self._session(arguments["cursor"]).extend(body)

    def _finish(self, arguments: Any, body: bytes, what: str) -> Any:
        try:
            session = self._session(arguments["cursor"])
        except Refused as error:
            raise Refused({".tag": "lookup_failed", "lookup_failed": error.args[0]}) from None
        if what == "full":
            reason = {".tag": "insufficient_space"}
            raise Refused({".tag": "path", "path": reason})
        session += body
        path, taken = (
            arguments["commit"]["path"],
            arguments["commit"]["mode"][".tag"] != "overwrite",
        )
        if taken and path in self.files:
            conflict = {".tag": "conflict", "conflict": {".tag": "file"}}
            raise Refused({".tag": "path", "path": conflict})
        whole = bytes(session[:-1] if what == "short" else session)
        self.files[path] = whole
        del self.sessions[arguments["cursor"]["session_id"]]
        return {
            "name": path.rpartition("/")[2],
            "id": "id:a4ayc_80_OEAAAAAAAAAXw",
            "client_modified": "2026-11-25T00:00:00Z",
            "server_modified": "2026-11-25T00:00:00Z",
            "rev": "a1c10ce0dd78",
            "size": len(whole),
            "path_lower": path.lower(),
            "path_display": path,
            "content_hash": content_hash(whole),
        }

    def _session(self, cursor: Any) -> bytearray:
        session = self.sessions.get(cursor["session_id"])
        if session is None:
            raise Refused({".tag": "not_found"})
        if cursor["offset"] != len(session):
            raise Refused({".tag": "incorrect_offset", "correct_offset": len(session)})
        return session

    def _delete_v2(self, arguments: Any) -> Any:
        path = next(path for path in self.files if path.lower() == arguments["path"])
        del self.files[path]
        deleted = {".tag": "deleted", "name": path.rpartition("/")[2]}
        return {"metadata": deleted}

    def _create_shared_link_with_settings(self, arguments: Any) -> Any:
        if arguments["path"] in self.links:
            raise Refused({".tag": "shared_link_already_exists"})
        self.links[arguments["path"]] = f"https://www.dropbox.com/scl/fi/{next(self._numbers)}?dl=0"
        return self._link(arguments["path"])

    def _list_shared_links(self, arguments: Any) -> Any:
        return {"links": [self._link(arguments["path"])], "has_more": False}

    def _link(self, path: str) -> Any:
        return {
            ".tag": "file",
            "url": self.links[path],
            "name": path.rpartition("/")[2],
            "link_permissions": {
                "can_revoke": True,
                "resolved_visibility": {".tag": "public"},
                "visibility_policies": [],
                "can_set_expiry": False,
                "can_remove_expiry": False,
                "allow_download": True,
                "can_allow_download": True,
                "can_disallow_download": False,
                "allow_comments": True,
                "team_restricts_comments": False,
            },
            "client_modified": "2026-11-25T00:00:00Z",
            "server_modified": "2026-11-25T00:00:00Z",
            "rev": "a1c10ce0dd78",
            "size": len(next(b for p, b in self.files.items() if p.lower() == path)),
        }


@asynccontextmanager
async def dropbox_double() -> AsyncIterator[DropboxDouble]:
    """The double on a port of its own."""
    double = DropboxDouble()
    runner = web.AppRunner(double.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield double
    finally:
        await runner.cleanup()
