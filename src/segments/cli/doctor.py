"""`segments doctor`: diagnose a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from segments.cli import output
from segments.settings import Settings

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    timeout_s: Annotated[
        float,
        typer.Option("--timeout-s", min=0.5, max=60, help="longest wait for each response"),
    ] = 5.0,
    json: output.JsonOption = False,  # noqa: FBT002 - an option
) -> None:
    """Check everything a deployment needs and print advice; exit status 1 if a check fails.

    Checks Kafka, topics, applications, sidecar, user service, clocks, disk and versions
    concurrently, each for a few seconds at most. Changes nothing.
    """
    from segments.doctor import examine  # noqa: PLC0415 - loads Kafka's client
    from segments.doctor.findings import worst  # noqa: PLC0415 - as above

    found = examine(Settings(), timeout_s)
    status = worst(found)
    if json:
        output.document({"status": status, "checks": [each.document() for each in found]})
    else:
        output.table(
            ["check", "", "seen", "advice"],
            [[each.check, each.status, each.seen, each.todo] for each in found],
            styles=[_COLOURS[each.status] for each in found],
        )
        counts = {name: sum(each.status == name for each in found) for name in _COLOURS}
        output.text(", ".join(f"{count} {name}" for name, count in counts.items()))
    if status == "fail":
        raise typer.Exit(1)
