"""/openapi.json and /docs: the interface for programs and for people, without the internet.

The page is Swagger UI from the files of a wheel, of which only those named here are served. It
loads nothing from elsewhere and runs no script but theirs and the few lines that start it.
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

from segments.http.auth.roles import Role
from segments.http.context import SERVICES
from segments.http.openapi.document import Variant, document
from segments.http.routing.headers import IF_NONE_MATCH
from segments.http.routing.operation import JSON, Answer, Operation
from segments.http.routing.routes import Routes

OPERATIONS = web.AppKey("operations", tuple[Operation, ...])
"""What the application serves, as its routes say it of themselves."""
SECURITY_HEADERS = {
    # `data:` because the icons of its buttons stand in its style sheet.
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
_OF_THE_WHEEL = {
    "swagger-ui.css": STYLE,
    "swagger-ui-bundle.js": SCRIPT,
    "favicon-32x32.png": ICON,
}
FILES = ("start.js", *_OF_THE_WHEEL)
"""Every file that the page loads."""
_UNCHANGED = Answer("As the client has it.", headers=("ETag", "Cache-Control"))

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
    return _content((_static() / name).read_bytes(), _OF_THE_WHEEL[name])


def _static() -> Path:
    """Where the wheel has its files. Its Python is not imported, as importlib.resources would."""
    return Path(str(distribution("swagger-ui-py").locate_file("swagger_ui/static")))


@lru_cache(maxsize=1)
def _encoded(operations: tuple[Operation, ...], variant: Variant) -> Content:
    return _content(orjson.dumps(document(operations, variant)), JSON)


@routes.get(
    "/openapi.json",
    role=Role.OPEN,
    headers=(IF_NONE_MATCH,),
    answers={
        200: Answer("The document.", body=dict[str, object], headers=("ETag", "Cache-Control")),
        304: _UNCHANGED,
    },
)
async def openapi(request: web.Request) -> web.Response:
    """This document: the interface as OpenAPI 3.1."""
    operations, settings = request.app[OPERATIONS], request.app[SERVICES].settings
    # Made when it is first asked for, for some 100 ms: not while others wait.
    made = await asyncio.to_thread(_encoded, operations, Variant.of(settings))
    return _answer(request, made)


@routes.get(
    "/docs",
    role=Role.OPEN,
    headers=(IF_NONE_MATCH,),
    answers={
        200: Answer("The page.", media={HTML: "Swagger UI"}, headers=("ETag", "Cache-Control")),
        304: _UNCHANGED,
    },
)
async def page(request: web.Request) -> web.Response:
    """The interface as a page, on which requests can be tried."""
    return _answer(request, _content(_PAGE.encode(), HTML))


@routes.get(
    "/docs/{file}",
    role=Role.OPEN,
    headers=(IF_NONE_MATCH,),
    answers={
        200: Answer(
            "The file.",
            media={STYLE: "A style sheet.", SCRIPT: "A script.", ICON: "An icon."},
            headers=("ETag", "Cache-Control"),
        ),
        304: _UNCHANGED,
    },
    problems=((404, "not_found"),),
)
async def file(request: web.Request) -> web.Response:
    """What the page is made of: a fixed list of files."""
    name = request.match_info["file"]
    if name not in FILES:
        raise web.HTTPNotFound
    return _answer(request, await asyncio.to_thread(_file, name))


def _answer(request: web.Request, content: Content) -> web.Response:
    """The content with its ETag, or 304 when the client has it."""
    # Asked for again each time, and mostly found unchanged: a new version is seen at once.
    headers = {**SECURITY_HEADERS, "ETag": content.etag, "Cache-Control": "no-cache"}
    asked = request.headers.get(IF_NONE_MATCH, "")
    if asked == "*" or content.etag in asked:
        return web.Response(status=304, headers=headers)
    charset = None if content.media in (ICON, JSON) else "utf-8"
    return web.Response(
        body=content.body, headers=headers, content_type=content.media, charset=charset
    )
