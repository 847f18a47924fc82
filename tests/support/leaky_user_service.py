"""A user service that tells everybody everything it was told, in every kind of failure."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LeakyUserService:
    """`faults`: user id -> what it is answered with; all others are active."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.asked: dict[str, int] = {}
        self.authorizations: set[str] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.answer(self)

            do_PUT = do_POST = do_HEAD = do_GET  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                """Said by `asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        user_id = request.path.rpartition("/")[2]
        told = request.headers.get("Authorization", "")
        self.authorizations.add(told)
        self.asked[user_id] = self.asked.get(user_id, 0) + 1
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self.faults.get(user_id, "")
        status, headers = 200, {"Content-Type": "application/json"}
        body = json.dumps({"id": user_id, "state": "active"}).encode()
        if fault == "redirect":
            status, headers["Location"] = 302, f"http://us:{told}@127.0.0.1:1/{told}"
        elif fault == "error":
            status, body = 500, told.encode()
        elif fault == "garbage":
            body = told.encode()
        elif fault == "state":
            body = json.dumps({"id": user_id, "state": "frozen", "told": told}).encode()
        elif not request.path.startswith("/users/"):
            status, body = 403, told.encode()
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
