"""Metric of commands by outcome."""

from __future__ import annotations

from pathlib import Path

import httpx
import orjson
import pytest
from prometheus_client import REGISTRY

from segments.process.ports import free_port
from segments.state.machine import outputs
from segments.state.machine.documents import Outcome
from segments.streams.shard_gauges import CommandCounter
from tests.support import deployments
from tests.support.records import send

USER = "3f333df6-90a4-4fda-8dd3-9485d27cee36"
# As they would have to stand in an id to be taken for the result's own words.
NASTY_IDS = ['"status":"unchanged"', '","status":"unchanged"', '"code":"invalid"', "\\", "é"]


def _counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("segments_commands_total", {"outcome": outcome}) or 0.0


@pytest.mark.parametrize("command_id", NASTY_IDS)
@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        ("applied", None, "applied"),
        ("unchanged", None, "unchanged"),
        ("rejected", {"code": "user_deleted", "detail": "the user is deleted"}, "user_deleted"),
    ],
)
def test_a_result_counts_for_its_status_or_its_code(
    command_id: str, status: str, error: dict[str, str] | None, outcome: str
) -> None:
    decided = Outcome(status=status, error=error, changes=[], offset=1, at=1)  # type: ignore[typeddict-item] # any
    before = {name: _counted(name) for name in ("applied", "unchanged", "user_deleted", "invalid")}
    commands = CommandCounter()
    commands.count(outputs.result(0, {"id": command_id}, decided).value)
    commands.report()
    commands.report()
    after = {name: _counted(name) - count for name, count in before.items()}
    assert after == dict.fromkeys(before, 0.0) | {outcome: 1.0}


def test_commands_total_is_exported_by_the_processes(broker: str, tmp_path: Path) -> None:
    ports = {"router_port": free_port(), "shards_port": free_port()}
    metrics = {"enabled": True, **ports}
    with deployments.deployment(broker, tmp_path / "data", metrics=metrics) as settings:
        deployments.start(settings, "router")
        deployments.start(settings, "shards")
        commands = [
            {"type": "create_segment", "segment": "a"},
            {"type": "create_segment", "segment": "a"},
            {"type": "change_memberships", "user_id": USER, "add": ["a"]},
            {"type": "change_memberships", "user_id": USER, "add": []},
        ]
        send(settings, "segments.commands", [orjson.dumps(each) for each in commands], partition=0)

        def told(application: str) -> dict[str, float]:
            port = ports[f"{application}_port"]
            try:
                lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
            except httpx.TransportError:
                return {}
            start = 'segments_commands_total{outcome="'
            found = [line.removeprefix(start) for line in lines if line.startswith(start)]
            return {line.partition('"')[0]: float(line.split()[-1]) for line in found}

        decided = {"applied": 2.0, "segment_exists": 1.0}
        deployments.wait_until(lambda: told("shards") == decided, what="the shards' counts")
        deployments.wait_until(
            lambda: told("router") == {"invalid": 1.0}, what="the router's count"
        )
