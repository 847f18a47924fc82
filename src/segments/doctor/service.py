"""The HTTP sidecar: whether it responds, how fresh it is, and whether its settings match."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx

from segments.client import Health, Retries, SegmentsClient, SegmentsError
from segments.doctor.findings import Finding, fail, ok, warn
from segments.settings import Settings
from segments.settings.endpoints import base_url

SIDECAR, VIEW, CLOCK, AGREEMENT = "sidecar", "view", "clock of the sidecar", "partitions"
_CLOCK_S = 2.0
"""The Date header has a resolution of one second: a smaller difference is none."""
_CLOCK_FAR_S = 60.0


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """The state of the sidecar by its health document and the Date header of a response."""
    url = base_url(settings)
    try:
        with SegmentsClient(
            url,
            timeout_s=timeout_s,
            connect_timeout_s=timeout_s,
            retries=Retries(attempts=1),
        ) as client:
            health = client.health()
    except (SegmentsError, ValueError) as error:
        todo = "segments run http, or set http.host, http.port or http.public_url to its address"
        yield fail(SIDECAR, str(error), todo)
        return
    yield ok(SIDECAR, f"responds at {url}")
    yield view(health)
    yield agreement(health, settings)
    yield from _clock(url, timeout_s)


def view(health: Health) -> Finding:
    """The age of the view, and the checks of its health that fail."""
    ages = {number: each.staleness_ms for number, each in health.partitions.items()}
    worst = max(ages, key=ages.__getitem__, default=None)
    seen = "no partition" if worst is None else f"{ages[worst]} ms old (partition {worst})"
    if health.ready:
        return ok(VIEW, f"ready, {seen}")
    failed = "; ".join(f"{name}: {why}" for name, why in health.checks.items() if why != "ok")
    return fail(VIEW, f"not ready, {seen}: {failed}", "see its log and the checks shards and kafka")


def agreement(health: Health, settings: Settings) -> Finding:
    """Whether the sidecar serves the partitions of these settings."""
    configured = settings.http.partitions
    expected = set(range(settings.partitions)) if configured is None else set(configured)
    found = set(health.partitions)
    if found == expected:
        return ok(AGREEMENT, f"the sidecar serves the {len(expected)} partitions of the settings")
    seen = f"the sidecar serves {sorted(found)}, the settings have {sorted(expected)}"
    if found < expected:
        return warn(AGREEMENT, seen, "wait until it has read the topics, or check its settings")
    return fail(AGREEMENT, seen, "run the sidecar and this command with the same settings")


def _clock(url: str, timeout_s: float) -> Iterator[Finding]:
    before_s = time.time()
    try:
        response = httpx.get(f"{url}/livez", timeout=timeout_s)
    except httpx.HTTPError as error:
        yield warn(CLOCK, f"no response: {type(error).__name__}", "run the command again")
        return
    date = response.headers.get("date")
    if date is None:
        yield warn(CLOCK, "responses have no Date header", "let proxies forward the header Date")
        return
    yield clock(parsedate_to_datetime(date), before_s, time.time())


def clock(date: datetime, before_s: float, after_s: float) -> Finding:
    """How far the Date header of a response is from the local clock at that time."""
    stamp_s = date.timestamp()
    ahead_s = max(0.0, stamp_s - after_s)
    behind_s = max(0.0, before_s - (stamp_s + 1))
    if max(ahead_s, behind_s) < _CLOCK_S:
        return ok(CLOCK, "agrees with the local clock to the second")
    seen = f"{ahead_s:.0f} s ahead" if ahead_s else f"{behind_s:.0f} s behind"
    far = max(ahead_s, behind_s) > _CLOCK_FAR_S
    todo = "synchronize both clocks (NTP): the sidecar ends memberships by its own"
    return (fail if far else warn)(CLOCK, f"{seen} the local clock", todo)
