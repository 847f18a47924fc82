"""The page at /docs: it loads only files of this server, and no other files are served."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from segments.http.routes import docs
from tests.support.sidecar import Sidecar, assert_problem, running

USER = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with running(tmp_path) as sidecar:
        yield sidecar


async def test_the_page_loads_what_is_served_and_nothing_else(sidecar: Sidecar) -> None:
    page = await sidecar.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sorted(loaded) == sorted(["openapi.json", *(f"docs/{name}" for name in docs.FILES)])
    for path in loaded:
        assert (await sidecar.get(f"/{path}")).status_code == 200
    assert "<style" not in page.text
    assert re.search(r"<script(?! src=)| on\w+=| style=", page.text) is None
    assert "://" not in page.text + (await sidecar.get("/docs/start.js")).text


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", *(f"/docs/{n}" for n in docs.FILES)])
async def test_response_headers_of_the_page(sidecar: Sidecar, path: str) -> None:
    response = await sidecar.get(path)
    policy = dict(
        directive.split(" ", 1)
        for directive in response.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    allowed = {source for sources in policy.values() for source in sources.split()}
    assert allowed == {"'none'", "'self'", "data:"}
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/docs", "/docs/swagger-ui.css"])
async def test_a_matching_etag_returns_304(sidecar: Sidecar, path: str) -> None:
    etag = (await sidecar.get(path)).headers["etag"]
    for asked in (etag, f'"other", {etag}', "*"):
        again = await sidecar.get(path, headers={"If-None-Match": asked})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert (await sidecar.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "swagger-ui.js",
        "swagger-editor.js",
        "index.html",
        "LICENSE",
        "..%2f__init__.py",
        "%2e%2e",
        "swagger-ui.css%00",
        "SWAGGER-UI.CSS",
        "a",
    ],
)
async def test_no_other_file_is_served(sidecar: Sidecar, name: str) -> None:
    assert_problem(await sidecar.get(f"/docs/{name}"), 404, "not_found")


@pytest.mark.parametrize("path", ["/docs/", "/docs/start.js/", "/openapi.json/", "/openapi"])
async def test_other_paths_are_not_found(sidecar: Sidecar, path: str) -> None:
    assert_problem(await sidecar.get(path), 404, "not_found")


async def test_the_files_are_those_of_the_wheel(sidecar: Sidecar) -> None:
    wheel = distribution("swagger-ui-py")
    for name in docs.FILES[1:]:
        kept = Path(str(wheel.locate_file(f"swagger_ui/static/{name}"))).read_bytes()  # noqa: ASYNC240 - of a test
        assert (await sidecar.get(f"/docs/{name}")).content == kept


async def test_no_module_of_the_wheel_is_imported(sidecar: Sidecar) -> None:
    import sys  # noqa: PLC0415 - what is looked at

    assert (await sidecar.get("/docs/swagger-ui-bundle.js")).status_code == 200
    assert "swagger_ui" not in sys.modules
