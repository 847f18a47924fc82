"""Baseline for GET: a bare aiohttp handler over RocksDB with the same documents.

    python -m bench._bare --port N --folder DIR --documents FILE

FILE has one document per line, as on segments.users. The handler reads a document by its key,
parses and serializes its JSON, and does nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import orjson
from aiohttp import web
from rocksdict import Options, Rdict


def build(database: Rdict) -> web.Application:
    """The application: one route that reads from the database."""

    async def get_segments(request: web.Request) -> web.Response:
        raw = database.get(request.match_info["user_id"].encode())
        if raw is None:
            raise web.HTTPNotFound
        body = orjson.dumps(orjson.loads(raw))
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/users/{user_id}/segments", get_segments)
    return app


def main() -> None:
    """Store the documents and serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--documents", type=Path, required=True)
    options = parser.parse_args()
    database = Rdict(str(options.folder), options=Options(raw_mode=True))
    with options.documents.open("rb") as documents:
        for line in documents:
            database[orjson.loads(line)["user_id"].encode()] = line.rstrip()
    database.flush()
    app = build(database)
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
