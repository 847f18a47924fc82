"""`segments doctor`: runs all checks of a deployment concurrently.

Each check has its own thread and timeout, so that an unreachable or hanging dependency delays none
of the others. Checks that need Kafka are skipped while Kafka is unreachable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from segments.doctor import clocks, groups, kafka, machine, queue, service, users, versions
from segments.doctor.findings import Finding, fail, warn
from segments.settings import Settings

Check = Callable[[Settings, float], Iterable[Finding]]
"""Takes the settings and the timeout of each of its requests in seconds."""

INDEPENDENT: dict[str, Check] = {
    "versions": versions.look,
    "data_dir": machine.look_at_folder,
    "files": machine.look_at_limits,
    "user service": users.look,
    "sidecar": service.look,
}
WITH_KAFKA: dict[str, Check] = {
    "topics": kafka.look_at_topics,
    "broker API": kafka.look_at_api,
    "groups": groups.look,
    "clock of the broker": clocks.look,
    "dead letters": queue.look,
}
# A check makes several requests, one after the other.
_REQUESTS_PER_CHECK = 3


@dataclass
class _RunningCheck:
    """A check and its findings so far."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    thread: threading.Thread | None = None


def examine(settings: Settings, timeout_s: float = 5.0) -> list[Finding]:
    """All findings, in the order of the checks; takes at most about three times `timeout_s`."""
    started_s = time.monotonic()
    independent = [_start(name, check, settings, timeout_s) for name, check in INDEPENDENT.items()]
    connection = _start("kafka", kafka.look, settings, timeout_s)
    _join(connection, timeout_s + 1)
    if any(finding.status == "fail" for finding in connection.findings):
        dependent = [
            _RunningCheck(name, [warn(name, "skipped: Kafka is not usable", "see kafka")])
            for name in WITH_KAFKA
        ]
    else:
        dependent = [_start(name, check, settings, timeout_s) for name, check in WITH_KAFKA.items()]
    for running in (*independent, *dependent):
        _join(running, started_s + _REQUESTS_PER_CHECK * timeout_s - time.monotonic())
    ordered = (independent[0], connection, *dependent, *independent[1:])
    return [finding for running in ordered for finding in running.findings]


def _start(name: str, check: Check, settings: Settings, timeout_s: float) -> _RunningCheck:
    running = _RunningCheck(name)

    def run() -> None:
        try:
            findings = list(check(settings, timeout_s))
        except Exception as error:  # noqa: BLE001 - no error of one check may end the others
            text = " ".join(str(error).split())[:300] or type(error).__name__
            findings = [fail(name, f"the check itself failed: {text}", "report it if it persists")]
        running.findings = findings

    # A daemon thread: a check that hangs must not keep the command from exiting.
    running.thread = threading.Thread(target=run, name=name, daemon=True)
    running.thread.start()
    return running


def _join(running: _RunningCheck, left_s: float) -> None:
    if running.thread is not None:
        running.thread.join(max(0.0, left_s))
        if running.thread.is_alive() and not running.findings:
            todo = "check whether it hangs, or raise --timeout-s"
            running.findings = [fail(running.name, "timed out", todo)]
