"""The user service: whether it answers, and accepts our token."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from segments.doctor.findings import Finding, fail, ok, warn
from segments.settings import Settings

_CHECK = "user service"
NOBODY = "00000000-0000-4000-8000-000000000000"


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Ask for a user that does not exist: any answer but an error will do."""
    section = settings.user_service
    if section.base_url is None:
        yield warn(
            _CHECK,
            "not configured: only states given by hand are served",
            "set user_service.base_url",
        )
        return
    path = section.path.replace("{id}", NOBODY)
    headers = {}
    if section.token is not None:
        headers["Authorization"] = f"Bearer {section.token.get_secret_value()}"
    base = httpx.URL(section.base_url)
    shown = base.copy_with(username=None, password=None)
    try:
        answer = httpx.get(
            f"{section.base_url.rstrip('/')}{path}", headers=headers, timeout=timeout_s
        )
    except httpx.HTTPError as error:
        todo = "start it, or set user_service.base_url to where it is; nothing is lost meanwhile"
        yield fail(_CHECK, f"{shown}: {type(error).__name__}", todo)
        return
    yield finding(str(shown), answer.status_code)


def finding(url: str, status: int) -> Finding:
    """What its answer for a user that does not exist means."""
    if status in (200, 404, 410):
        return ok(_CHECK, f"{url} answers ({status} for nobody)")
    if status in (401, 403):
        return fail(_CHECK, f"{url} answers {status}", "set user_service.token")
    if status == 429 or status >= 500:
        return warn(_CHECK, f"{url} answers {status}", "see its log; users are asked for again")
    todo = "set user_service.base_url and user_service.path to what it serves"
    return fail(_CHECK, f"{url} answers {status}", todo)
