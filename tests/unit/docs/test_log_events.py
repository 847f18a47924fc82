"""Log events: stable snake_case identifiers, each with a meaning in the catalogue."""

from __future__ import annotations

import re

from segments.telemetry.log_events import EVENTS
from tests.support.docs.generated import log_calls

_IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def test_every_event_is_a_snake_case_identifier() -> None:
    others = [
        f"{call.module}: {call.event}"
        for call in log_calls()
        if _IDENTIFIER.fullmatch(call.event) is None
    ]
    assert not others, "\n" + "\n".join(others)


def test_the_catalogue_has_exactly_the_events_of_the_code() -> None:
    used = {call.event for call in log_calls()}
    missing, unused = sorted(used - EVENTS.keys()), sorted(EVENTS.keys() - used)
    assert not missing and not unused, f"missing: {missing}, unused: {unused}"  # noqa: PT018


def test_a_meaning_is_one_line() -> None:
    assert [event for event, meaning in EVENTS.items() if not meaning or "\n" in meaning] == []
