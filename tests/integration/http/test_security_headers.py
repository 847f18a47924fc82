"""Security headers of responses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sidecar import entry, running, store

USER = "3f333df6-90a4-4fda-8dd3-9485d27cee36"
IN_2026_JANUARY_MS = 1_767_300_000_000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/livez", 200),
        ("/metrics", 200),
        ("/openapi.json", 200),
        ("/docs", 200),
        ("/docs/start.js", 200),
        ("/v1/segments", 200),
        ("/v1/reports/2026-01.csv", 200),
        (f"/v1/users/{USER}/segments", 404),
        ("/no/such/path", 404),
        ("/v1/segments?unknown=1", 400),
    ],
)
async def test_content_types_are_not_sniffed(tmp_path: Path, path: str, status: int) -> None:
    store(tmp_path, [entry(0, 0, IN_2026_JANUARY_MS, USER)])
    async with running(tmp_path) as sidecar:
        response = await sidecar.get(path)
        assert response.status_code == status
        assert response.headers.get_list("x-content-type-options") == ["nosniff"]
        assert "x-powered-by" not in response.headers


async def test_the_page_has_a_strict_content_security_policy(tmp_path: Path) -> None:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        for path in ("/docs", "/openapi.json"):
            headers = (await sidecar.get(path)).headers
            policy = dict(
                part.split(" ", 1) for part in headers["content-security-policy"].split("; ")
            )
            assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
            assert policy["base-uri"] == policy["form-action"] == "'none'"
            assert "unsafe" not in headers["content-security-policy"]
            assert "http" not in headers["content-security-policy"], "nothing from elsewhere"
            assert headers["referrer-policy"] == "no-referrer"


async def test_reports_are_not_cached(tmp_path: Path) -> None:
    store(tmp_path, [entry(0, 0, IN_2026_JANUARY_MS, USER)])
    async with running(tmp_path) as sidecar:
        response = await sidecar.get("/v1/reports/2026-01.csv")
        assert response.headers["cache-control"] == "no-store"
