"""The HTTP sidecar: whether it answers, how fresh it is, and whether its settings agree."""

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
"""The date of an answer has whole seconds: less than this is no difference."""
_CLOCK_FAR_S = 60.0


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Everything that its health and the date of its answer say."""
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
        todo = "segments run http, or set http.host, http.port or http.public_url to where it is"
        yield fail(SIDECAR, str(error), todo)
        return
    yield ok(SIDECAR, f"answers at {url}")
    yield view(health)
    yield agreement(health, settings)
    yield from _clock(url, timeout_s)


def view(health: Health) -> Finding:
    """How old the view is, and what is amiss."""
    ages = {number: each.staleness_ms for number, each in health.partitions.items()}
    worst = max(ages, key=ages.__getitem__, default=None)
    seen = "no partition known" if worst is None else f"{ages[worst]} ms old (partition {worst})"
    if health.ready:
        return ok(VIEW, f"ready, {seen}")
    amiss = "; ".join(f"{name}: {told}" for name, told in health.checks.items() if told != "ok")
    return fail(VIEW, f"not ready, {seen}: {amiss}", "see its log, and the checks of shards, kafka")


def agreement(health: Health, settings: Settings) -> Finding:
    """Whether the sidecar keeps the partitions that these settings mean."""
    kept = settings.http.partitions
    meant = set(range(settings.partitions)) if kept is None else set(kept)
    found = set(health.partitions)
    if found == meant:
        return ok(AGREEMENT, f"the sidecar keeps the {len(meant)} that the settings mean")
    seen = f"the sidecar knows {sorted(found)}, the settings mean {sorted(meant)}"
    if found < meant:
        return warn(AGREEMENT, seen, "wait until it has read the topics, or look at its settings")
    return fail(AGREEMENT, seen, "start it, and this command, with the same settings")


def _clock(url: str, timeout_s: float) -> Iterator[Finding]:
    before_s = time.time()
    try:
        answer = httpx.get(f"{url}/livez", timeout=timeout_s)
    except httpx.HTTPError as error:
        yield warn(CLOCK, f"no answer: {type(error).__name__}", "run it again")
        return
    told = answer.headers.get("date")
    if told is None:
        yield warn(CLOCK, "its answers have no date", "let proxies pass the header Date on")
        return
    yield clock(parsedate_to_datetime(told), before_s, time.time())


def clock(told: datetime, before_s: float, after_s: float) -> Finding:
    """How far the date of an answer, in whole seconds, is from the clock here at that time."""
    stamp_s = told.timestamp()
    ahead_s = max(0.0, stamp_s - after_s)
    behind_s = max(0.0, before_s - (stamp_s + 1))
    if max(ahead_s, behind_s) < _CLOCK_S:
        return ok(CLOCK, "its date is that of the clock here, to the second")
    seen = f"{ahead_s:.0f} s ahead" if ahead_s else f"{behind_s:.0f} s behind"
    far = max(ahead_s, behind_s) > _CLOCK_FAR_S
    todo = "bring both clocks into step (NTP): ends of memberships are judged by the sidecar's"
    return (fail if far else warn)(CLOCK, f"{seen} the clock here", todo)
