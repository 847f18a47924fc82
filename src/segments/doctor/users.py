"""The user service: whether it responds, and accepts the token."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from segments.doctor.findings import Finding, fail, ok, warn
from segments.settings import Settings

_CHECK = "user service"
_UNKNOWN_USER = "00000000-0000-4000-8000-000000000000"


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Fetch a user that does not exist: any response but an error is fine."""
    section = settings.user_service
    if section.base_url is None:
        yield warn(
            _CHECK,
            "not configured: only refreshes that carry a state are processed",
            "set user_service.base_url",
        )
        return
    path = section.path.replace("{id}", _UNKNOWN_USER)
    headers = {}
    if section.token is not None:
        headers["Authorization"] = f"Bearer {section.token.get_secret_value()}"
    base = httpx.URL(section.base_url)
    shown = base.copy_with(username=None, password=None)
    try:
        response = httpx.get(
            f"{section.base_url.rstrip('/')}{path}", headers=headers, timeout=timeout_s
        )
    except httpx.HTTPError as error:
        todo = "start it, or set user_service.base_url; refreshes wait in Kafka meanwhile"
        yield fail(_CHECK, f"{shown}: {type(error).__name__}", todo)
        return
    yield finding(str(shown), response.status_code)


def finding(url: str, status: int) -> Finding:
    """The finding for the status of a request for a user that does not exist."""
    if status in (200, 404, 410):
        return ok(_CHECK, f"{url} responds ({status} for an unknown user)")
    if status in (401, 403):
        return fail(_CHECK, f"{url} responds {status}", "set user_service.token")
    if status == 429 or status >= 500:
        return warn(_CHECK, f"{url} responds {status}", "see its log; fetches are retried")
    todo = "set user_service.base_url and user_service.path to what it serves"
    return fail(_CHECK, f"{url} responds {status}", todo)
