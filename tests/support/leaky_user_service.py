"""A user service that echoes its token in every kind of failure."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LeakyUserService:
    """`faults`: user id -> the kind of failure; other users are active."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.calls: dict[str, int] = {}
        self.authorizations: set[str] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.answer(self)

            do_PUT = do_POST = do_HEAD = do_GET  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                """`calls` records the requests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        user_id = request.path.rpartition("/")[2]
        token = request.headers.get("Authorization", "")
        self.authorizations.add(token)
        self.calls[user_id] = self.calls.get(user_id, 0) + 1
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self.faults.get(user_id, "")
        status, headers = 200, {"Content-Type": "application/json"}
        body = json.dumps({"id": user_id, "state": "active"}).encode()
        if fault == "redirect":
            status, headers["Location"] = 302, f"http://us:{token}@127.0.0.1:1/{token}"
        elif fault == "error":
            status, body = 500, token.encode()
        elif fault == "garbage":
            body = token.encode()
        elif fault == "state":
            body = json.dumps({"id": user_id, "state": "frozen", "token": token}).encode()
        elif not request.path.startswith("/users/"):
            status, body = 403, token.encode()
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
