"""/openapi.json and /docs: the OpenAPI document and a page that shows it, without the internet.

The page is Swagger UI, served from the files of a wheel that are listed here. It loads nothing from
other hosts and runs no scripts but those of Swagger UI and the few lines that start it.
"""

from __future__ import annotations

import asyncio
from functools import cache, lru_cache
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import orjson
from aiohttp import web

from segments.contracts.messages import JSON_CONTENT_TYPE
from segments.http.auth.roles import Role
from segments.http.context import SERVICES
from segments.http.openapi.document import Variant, document
from segments.http.routing.headers import IF_NONE_MATCH
from segments.http.routing.operation import Operation, Response
from segments.http.routing.routes import Routes

OPERATIONS = web.AppKey("operations", tuple[Operation, ...])
"""The operations that the application serves."""
SECURITY_HEADERS = {
    # `data:` because Swagger UI's style sheet contains icons as data URLs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HTML, SCRIPT, STYLE, ICON = "text/html", "text/javascript", "text/css", "image/png"
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Segments: the HTTP interface</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript><p>This page needs JavaScript. The document itself:
<a href="openapi.json">openapi.json</a>.</p></noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """\
"use strict";
window.addEventListener("load", function () {
  window.ui = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#swagger-ui",
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    persistAuthorization: false,
    validatorUrl: null,
  });
});
"""
_WHEEL_FILES = {
    "swagger-ui.css": STYLE,
    "swagger-ui-bundle.js": SCRIPT,
    "favicon-32x32.png": ICON,
}
FILES = ("start.js", *_WHEEL_FILES)
"""Every file that the page loads."""
_UNCHANGED = Response("Unchanged.", headers=("ETag", "Cache-Control"))

routes = Routes("documentation")


class Content(NamedTuple):
    """A body with its media type and its ETag."""

    body: bytes
    media: str
    etag: str


def _content(body: bytes, media: str) -> Content:
    return Content(body, media, f'"{sha256(body).hexdigest()[:24]}"')


@cache
def _file(name: str) -> Content:
    """One of FILES."""
    if name == "start.js":
        return _content(_START.encode(), SCRIPT)
    return _content((_static() / name).read_bytes(), _WHEEL_FILES[name])


def _static() -> Path:
    """The wheel's files. Unlike with importlib.resources, its Python is not imported."""
    return Path(str(distribution("swagger-ui-py").locate_file("swagger_ui/static")))


@lru_cache(maxsize=1)
def _encoded_document(operations: tuple[Operation, ...], variant: Variant) -> Content:
    return _content(orjson.dumps(document(operations, variant)), JSON_CONTENT_TYPE)


@routes.get(
    "/openapi.json",
    role=Role.OPEN,
    headers=(IF_NONE_MATCH,),
    responses={
        200: Response("The document.", body=dict[str, object], headers=("ETag", "Cache-Control")),
        304: _UNCHANGED,
    },
)
async def openapi(request: web.Request) -> web.Response:
    """This document: the interface as OpenAPI 3.1."""
    operations, settings = request.app[OPERATIONS], request.app[SERVICES].settings
    # Generated at the first request, which takes about 100 ms: not in the event loop.
    content = await asyncio.to_thread(_encoded_document, operations, Variant.of(settings))
    return _response(request, content)


@routes.get(
    "/docs",
    role=Role.OPEN,
    headers=(IF_NONE_MATCH,),
    responses={
        200: Response("The page.", media={HTML: "Swagger UI"}, headers=("ETag", "Cache-Control")),
        304: _UNCHANGED,
    },
)
async def page(request: web.Request) -> web.Response:
    """The interface as a page on which requests can be tried out."""
    return _response(request, _content(_PAGE.encode(), HTML))


@routes.get(
    "/docs/{file}",
    role=Role.OPEN,
    headers=(IF_NONE_MATCH,),
    responses={
        200: Response(
            "The file.",
            media={STYLE: "A style sheet.", SCRIPT: "A script.", ICON: "An icon."},
            headers=("ETag", "Cache-Control"),
        ),
        304: _UNCHANGED,
    },
    problems=((404, "not_found"),),
)
async def file(request: web.Request) -> web.Response:
    """The files of the page: a fixed list."""
    name = request.match_info["file"]
    if name not in FILES:
        raise web.HTTPNotFound
    return _response(request, await asyncio.to_thread(_file, name))


def _response(request: web.Request, content: Content) -> web.Response:
    """The content with its ETag, or 304 if the client has it."""
    # Revalidated by the browser each time, so that a new version is seen at once.
    headers = {**SECURITY_HEADERS, "ETag": content.etag, "Cache-Control": "no-cache"}
    known = request.headers.get(IF_NONE_MATCH, "")
    if known == "*" or content.etag in known:
        return web.Response(status=304, headers=headers)
    charset = None if content.media in (ICON, JSON_CONTENT_TYPE) else "utf-8"
    return web.Response(
        body=content.body, headers=headers, content_type=content.media, charset=charset
    )
