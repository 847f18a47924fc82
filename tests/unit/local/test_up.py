"""What `segments up` prints, and the ports it chooses."""

from __future__ import annotations

import io
import json

from rich.console import Console

from segments.local.up import _printer, with_chosen_ports
from segments.settings import Settings

ENTRY = {
    "partition": 3,
    "event": "shard_ready",
    "application": "shards",
    "level": "info",
    "timestamp": "2026-11-24T18:53:46.151366Z",
}


def _printed(line: str, *, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, no_color=True, soft_wrap=True)
    _printer(console)("shards-1", line)
    return output.getvalue()


def test_people_read_words_behind_the_name() -> None:
    shown = _printed(json.dumps(ENTRY), terminal=True)
    assert shown == "shards-1 │ 18:53:46 info    shard_ready partition=3\n"


def test_a_trace_stays_readable() -> None:
    shown = _printed(json.dumps(ENTRY | {"exception": "Trace\n  line"}), terminal=True)
    assert shown.endswith("partition=3\nTrace\n  line\n")


def test_machines_read_json_lines() -> None:
    assert json.loads(_printed(json.dumps(ENTRY), terminal=False)) == ENTRY
    for line in ("plain [text]", "3", '{"no": "log"}'):
        wrapped = json.loads(_printed(line, terminal=False))
        assert wrapped == {"event": line, "application": "shards-1"}


def test_any_port_becomes_a_known_one() -> None:
    any_port = Settings(
        kafka={"bootstrap_servers": "127.0.0.1:0", "embedded": True},
        http={"port": 0},
    )
    chosen = with_chosen_ports(any_port)
    assert chosen.http.port > 0
    assert int(chosen.kafka.bootstrap_servers.rpartition(":")[2]) > 0
    assert with_chosen_ports(chosen) == chosen
