"""Waits until every process has completely processed what was sent."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from segments.settings import Settings
from segments.state.history.sqlite import database_path
from tests.support import deployments
from tests.support.crash.cluster import SOURCES, Cluster
from tests.support.crash.topic_tails import TOPICS, TopicTail, TopicTails
from tests.support.crash.traffic import Traffic

TIMEOUT_S = 150.0
_SOON_MS = 60_000


def wait_until_settled(cluster: Cluster, traffic: Traffic, tails: TopicTails) -> None:
    """Wait until nothing is in progress; AssertionError names what is missing after the timeout."""
    before: Any = None

    def settled() -> bool:
        nonlocal before
        cluster.restart_exited()
        seen, before = before, None
        tails.update()
        _check(cluster, traffic, tails)
        # Two equal checks in a row: no topic changed while the others were checked.
        before = _signature(tails)
        return bool(before == seen)

    deployments.wait_until(settled, TIMEOUT_S, "everything sent to be processed", poll_s=0.3)


def _signature(tails: TopicTails) -> Any:
    quiet = {name: tails[name].last_offsets() for name in TOPICS}
    quiet["segments.shards"] = last_non_tick_offsets(tails["segments.shards"])
    del quiet["segments.users"]  # progress markers continue with the ticks
    return quiet


def _check(cluster: Cluster, traffic: Traffic, tails: TopicTails) -> None:
    for application in ("router", "users"):
        committed = cluster.committed(application)
        for topic in SOURCES[application]:
            for partition, last in tails[topic].last_offsets().items():
                at = committed.get((cluster.settings.topic(topic), partition), 0)
                assert at > last, f"{application} is at {topic}:{partition}:{at}, not {last}"
    marked = markers(tails)
    for partition, last in last_non_tick_offsets(tails["segments.shards"]).items():
        at = marked.get(partition, {"log_offset": -1})["log_offset"]
        assert at >= last, f"shard {partition} is at {at}, not {last}"
    answered = {record.key.decode() for record in tails["segments.results"].all() if record.key}
    missing = (traffic.commands.keys() | traffic.invalid) - answered
    assert not missing, f"{len(missing)} commands without a result, such as {sorted(missing)[:3]}"
    soon = [user_id for user_id, ends in _ends(tails) if ends < time.time() * 1000 + _SOON_MS]
    assert not soon, f"memberships of {len(soon)} users end soon"
    written = history_rows(cluster.settings)
    for partition, marker in marked.items():
        found = sum(1 for row in written if row[0] == partition)
        assert found == marker["history_rows"], f"history of {partition}: {found}, {marker}"


def markers(tails: TopicTails) -> dict[int, dict[str, Any]]:
    """The newest progress marker of each partition."""
    newest = {}
    for entry in tails["segments.users"].newest().values():
        if entry.key is not None and entry.key.startswith(b"!progress/"):
            newest[entry.partition] = entry.json
    return newest


def documents(tails: TopicTails) -> dict[str, dict[str, Any]]:
    """The newest public document of each user."""
    return {
        key.decode(): entry.json
        for key, entry in tails["segments.users"].newest().items()
        if key is not None and not key.startswith(b"!")
    }


def _ends(tails: TopicTails) -> list[tuple[str, int]]:
    return [
        (user_id, held["expires_at"])
        for user_id, document in documents(tails).items()
        for held in document["segments"].values()
        if held["expires_at"] is not None
    ]


def last_non_tick_offsets(log: TopicTail) -> dict[int, int]:
    """Offset of the last record of each partition that is not a tick."""
    return {
        partition: max((r.offset for r in records if r.headers["type"] != b"tick"), default=-1)
        for partition, records in log.records.items()
    }


def history_rows(settings: Settings) -> list[tuple[Any, ...]]:
    """Every row of the SQLite store: (partition, offset, at, user id, …), in that order."""
    path = database_path(settings)
    if not path.exists():
        return []
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(
            "SELECT partition, offset, at, user_id, segment, generation, operation, cause,"
            " command_id, actor, expires_at FROM history ORDER BY partition, offset"
        ).fetchall()
    except sqlite3.OperationalError:
        return []  # the tables do not exist yet
    finally:
        connection.close()
