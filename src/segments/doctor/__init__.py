"""`segments doctor`: looks at everything a deployment needs, all at the same time.

Each check has a thread and a time of its own: what cannot be reached, or hangs, keeps none of the
others waiting. What needs Kafka is not tried where Kafka cannot be reached.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from segments.doctor import clocks, groups, kafka, machine, queue, service, users, versions
from segments.doctor.findings import Finding, fail, warn
from segments.settings import Settings

Probe = Callable[[Settings, float], Iterable[Finding]]
"""What looks: with the settings, and the longest wait of each of its requests in seconds."""

ALONE: dict[str, Probe] = {
    "versions": versions.look,
    "data_dir": machine.look_at_folder,
    "files": machine.look_at_limits,
    "user service": users.look,
    "sidecar": service.look,
}
WITH_KAFKA: dict[str, Probe] = {
    "topics": kafka.look_at_topics,
    "broker API": kafka.look_at_api,
    "groups": groups.look,
    "clock of the broker": clocks.look,
    "dead letters": queue.look,
}
# A check asks for several things, one after the other.
_REQUESTS = 3


@dataclass
class _Looking:
    """A check on its way."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    thread: threading.Thread | None = None


def examine(settings: Settings, timeout_s: float = 5.0) -> list[Finding]:
    """Every finding, in the order of the checks; returns after some three times `timeout_s`."""
    began_s = time.monotonic()
    alone = [_begin(name, probe, settings, timeout_s) for name, probe in ALONE.items()]
    reached = _begin("kafka", kafka.look, settings, timeout_s)
    _end(reached, timeout_s + 1)
    if any(finding.status == "fail" for finding in reached.findings):
        todo = "see kafka"
        later = [
            _Looking(name, [warn(name, "not looked at: Kafka cannot be used", todo)])
            for name in WITH_KAFKA
        ]
    else:
        later = [_begin(name, probe, settings, timeout_s) for name, probe in WITH_KAFKA.items()]
    for looking in (*alone, *later):
        _end(looking, began_s + _REQUESTS * timeout_s - time.monotonic())
    return [
        finding for each in (alone[0], reached, *later, *alone[1:]) for finding in each.findings
    ]


def _begin(name: str, probe: Probe, settings: Settings, timeout_s: float) -> _Looking:
    looking = _Looking(name)

    def look() -> None:
        try:
            found = list(probe(settings, timeout_s))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            text = " ".join(str(error).split())[:300] or type(error).__name__
            found = [fail(name, f"the check itself failed: {text}", "report it if it stays")]
        looking.findings = found

    # A daemon: one that hangs must not keep the command from ending.
    looking.thread = threading.Thread(target=look, name=name, daemon=True)
    looking.thread.start()
    return looking


def _end(looking: _Looking, left_s: float) -> None:
    if looking.thread is not None:
        looking.thread.join(max(0.0, left_s))
        if looking.thread.is_alive() and not looking.findings:
            looking.findings = [
                fail(
                    looking.name, "no answer in time", "see whether it hangs, or raise --timeout-s"
                )
            ]
