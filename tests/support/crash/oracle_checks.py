"""Compares the outputs with the oracle, row by row.

Every check returns a list of differences; an empty list means success.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby, zip_longest
from typing import Any
from uuid import UUID

import orjson

from segments.contracts.partitioning import partition_of
from segments.contracts.times import from_rfc3339
from segments.settings import Settings
from tests.support.crash.settle import documents, history_rows
from tests.support.crash.shard_oracle import ShardOracle
from tests.support.crash.topic_tails import Entry, TopicTails


def replayed(tails: TopicTails) -> dict[int, ShardOracle]:
    """An oracle for each shard that has applied its log."""
    oracles = {}
    logs = tails["segments.shards"].records
    for partition, records in logs.items():
        oracles[partition] = ShardOracle(partition, len(logs))
        for record in records:
            oracles[partition].apply(record)
    return oracles


def oracle_differences(tails: TopicTails, settings: Settings) -> list[str]:
    """Everything that differs from what the log implies."""
    oracles = replayed(tails)
    return [
        *_history_against_oracle(tails, oracles),
        *_results_against_oracle(tails, oracles),
        *_documents_against_oracle(tails, oracles),
        *_definitions_against_oracle(tails, oracles),
        *_store_against_topic(tails, settings),
    ]


def history(tails: TopicTails) -> list[tuple[Entry, dict[str, Any]]]:
    """Rows of segments.history with times in milliseconds."""
    rows = []
    for entry in tails["segments.history"].all():
        row = entry.json
        row["at"] = from_rfc3339(row["at"])
        row["expires_at"] = None if row["expires_at"] is None else from_rfc3339(row["expires_at"])
        rows.append((entry, row))
    return rows


def _history_against_oracle(tails: TopicTails, oracles: dict[int, ShardOracle]) -> list[str]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    wrong = []
    for entry, row in history(tails):
        found[row["user_id"]].append(row)
        if entry.partition != partition_of(row["user_id"], len(oracles)):
            wrong.append(f"row of {row['user_id']} in partition {entry.partition}")
    expected: dict[str, list[dict[str, Any]]] = {}
    for oracle in oracles.values():
        expected |= oracle.rows
    for user_id in sorted(found.keys() | expected.keys()):
        pairs = zip_longest(_ordered(found[user_id]), _ordered(expected.get(user_id, [])))
        first = next((pair for pair in pairs if pair[0] != pair[1]), None)
        if first is not None:
            wrong.append(f"history of {user_id}: found {first[0]}, expected {first[1]}")
    return wrong


def _ordered(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A user's rows; simultaneous expiries and deletions are sorted by segment."""
    for (_, ended), group in groupby(
        rows, key=lambda row: (row["at"], row["cause"] in ("expired", "segment_deleted"))
    ):
        if ended:
            yield from sorted(group, key=lambda row: row["segment"])
        else:
            yield from group


def _results_against_oracle(tails: TopicTails, oracles: dict[int, ShardOracle]) -> list[str]:
    found = Counter(
        frozen(
            {
                "command_id": result["command_id"],
                "status": result["status"],
                "error": _without_detail(result["error"]),
                "changes": [
                    [change["segment"], change["operation"]] for change in result["changes"]
                ],
                "position": result["position"],
                "at": from_rfc3339(result["at"]),
            }
        )
        for entry in tails["segments.results"].all()
        if (result := entry.json)["position"] is not None
    )
    expected = Counter(frozen(each) for oracle in oracles.values() for each in oracle.results)
    return _surplus("result", found - expected, expected - found)


def _documents_against_oracle(tails: TopicTails, oracles: dict[int, ShardOracle]) -> list[str]:
    found = {
        user_id: {"account": document["account"], "segments": document["segments"]}
        for user_id, document in documents(tails).items()
    }
    expected: dict[str, Any] = {}
    for oracle in oracles.values():
        expected |= dict(oracle.documents())
    return compare("document of", found, expected)


def _definitions_against_oracle(tails: TopicTails, oracles: dict[int, ShardOracle]) -> list[str]:
    defines = [define for oracle in oracles.values() for define in oracle.defines]
    wrong = []
    for partition, records in tails["segments.shards"].records.items():
        found = Counter(frozen(r.json) for r in records if r.headers["type"] == b"define")
        expected = Counter(frozen(define) for define in defines)
        wrong += _surplus(f"define in {partition}", found - expected, expected - found)
    published = Counter(frozen(entry.json) for entry in tails["segments.definitions"].all())
    expected = Counter(
        frozen({k: v for k, v in define.items() if k not in ("command_id", "actor")})
        for define in defines
    )
    return wrong + _surplus("definition", published - expected, expected - published)


def _store_against_topic(tails: TopicTails, settings: Settings) -> list[str]:
    found = {row[:2]: row[2:] for row in history_rows(settings)}
    expected = {
        (entry.partition, entry.offset): (
            row["at"],
            UUID(row["user_id"]).bytes,
            *(
                row[name]
                for name in (
                    "segment",
                    "generation",
                    "operation",
                    "cause",
                    "command_id",
                    "actor",
                    "expires_at",
                )
            ),
        )
        for entry, row in history(tails)
    }
    return compare("stored row", found, expected)


def frozen(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _without_detail(error: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if error is None else {"code": error["code"], "segments": error.get("segments")}


def compare(what: str, found: dict[Any, Any], expected: dict[Any, Any]) -> list[str]:
    return [
        f"{what} {key}: found {found.get(key)}, expected {expected.get(key)}"
        for key in sorted(found.keys() | expected.keys(), key=str)
        if found.get(key) != expected.get(key)
    ]


def _surplus(what: str, more: Counter[bytes], fewer: Counter[bytes]) -> list[str]:
    return [f"unexpected {what}: {each!r}" for each in more.elements()] + [
        f"missing {what}: {each!r}" for each in fewer.elements()
    ]
