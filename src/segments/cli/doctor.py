"""`segments doctor`: what is wrong with a deployment, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from segments.cli import output
from segments.settings import Settings

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    timeout_s: Annotated[
        float,
        typer.Option("--timeout-s", min=0.5, max=60, help="longest wait for one answer"),
    ] = 5.0,
    json: output.JsonOption = False,  # noqa: FBT002 - an option
) -> None:
    """Look at everything a deployment needs, and say what to do; status 1 when something fails.

    Kafka, topics, applications, sidecar, user service, clocks, disk, versions: all at the same
    time, each for some seconds at most. Nothing is changed.
    """
    from segments.doctor import examine  # noqa: PLC0415 - loads Kafka's client
    from segments.doctor.findings import worst  # noqa: PLC0415 - as above

    found = examine(Settings(), timeout_s)
    status = worst(found)
    if json:
        output.document({"status": status, "checks": [each.document() for each in found]})
    else:
        output.table(
            ["check", "", "seen", "what to do"],
            [[each.check, each.status, each.seen, each.todo] for each in found],
            styles=[_COLOURS[each.status] for each in found],
        )
        counts = {kind: sum(each.status == kind for each in found) for kind in _COLOURS}
        output.text(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if status == "fail":
        raise typer.Exit(1)
