"""Compares the outputs with what was sent, independently of the log.

Every check returns a list of differences; an empty list means success.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from tests.support.crash.oracle_checks import compare, frozen, history
from tests.support.crash.settle import documents
from tests.support.crash.topic_tails import TopicTails
from tests.support.crash.traffic import Traffic


def command_differences(tails: TopicTails, traffic: Traffic) -> list[str]:
    """Everything that is lost, duplicated or inconsistent."""
    return [
        *_sent_against_log(tails, traffic),
        *_one_outcome_each(tails, traffic),
        *_history_is_consistent(tails),
        *_users_against_service(tails, traffic),
    ]


def _sent_against_log(tails: TopicTails, traffic: Traffic) -> list[str]:
    """Every command is in the log as often as it was sent, not counting the router's duplicates."""
    seen: set[bytes] = set()
    times: Counter[str] = Counter()
    for entry in tails["segments.shards"].all():
        source = entry.headers.get("src")
        if source is not None and source not in seen:
            seen.add(source)
            times[entry.json["id"]] += 1
    missing = [command_id for command_id in traffic.commands if not times[command_id]]
    wrong = [f"command {command_id} is not in the log" for command_id in missing]
    expected = len(traffic.commands) + traffic.sent["repeated"]
    if sum(times.values()) != expected:
        wrong.append(f"{sum(times.values())} commands in the log, {expected} were sent")
    return wrong


def _one_outcome_each(tails: TopicTails, traffic: Traffic) -> list[str]:
    """Every id has one outcome, even if repeated, and the history has exactly its changes."""
    outcomes: dict[str, set[bytes]] = defaultdict(set)
    changes: dict[str, list[tuple[str, str]]] = {}
    for entry in tails["segments.results"].all():
        result = entry.json
        outcomes[result["command_id"]].add(frozen(result))
        changes[result["command_id"]] = sorted(
            (change["segment"], change["operation"]) for change in result["changes"]
        )
    sent = traffic.commands.keys() | traffic.invalid
    wrong = [
        f"{len(outcomes[each])} outcomes of {each}" for each in sent if len(outcomes[each]) != 1
    ]
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    users: dict[str, set[str]] = defaultdict(set)
    for _, row in history(tails):
        if row["cause"] == "command":
            rows[row["command_id"]].append((row["segment"], row["operation"]))
            users[row["command_id"]].add(row["user_id"])
    for command_id, command in traffic.commands.items():
        if sorted(rows.get(command_id, [])) != changes.get(command_id, []):
            wrong.append(f"{command_id} says {changes.get(command_id)}, wrote {rows[command_id]}")
        if users.get(command_id, set()) - {command.get("user_id")}:
            wrong.append(f"{command_id} changed other users: {users[command_id]}")
    wrong += [
        f"a command that was not sent: {each}" for each in rows.keys() - traffic.commands.keys()
    ]
    return wrong


def _history_is_consistent(tails: TopicTails) -> list[str]:
    """For each user and segment: add, any extends, remove; expiries at their exact times."""
    wrong = []
    held: dict[tuple[str, str], dict[str, Any]] = {}
    last_at: Counter[str] = Counter()
    for entry, row in history(tails):
        key = (row["user_id"], row["segment"])
        before = held.get(key)
        at = f"{entry.partition}:{entry.offset} {row}"
        if (row["operation"] == "add") == (before is not None):
            wrong.append(f"{row['operation']} after {before}: {at}")
        if row["at"] < last_at[row["user_id"]]:
            wrong.append(f"earlier than the previous row: {at}")
        last_at[row["user_id"]] = row["at"]
        if row["cause"] == "expired" and (before or {}).get("expires_at") != row["at"]:
            wrong.append(f"an expiry at another time than {before}: {at}")
        if row["operation"] == "remove":
            held.pop(key, None)
        else:
            held[key] = row
    shown = {
        (user_id, segment): membership["expires_at"]
        for user_id, document in documents(tails).items()
        for segment, membership in document["segments"].items()
    }
    ends = {key: row["expires_at"] for key, row in held.items()}
    return wrong + compare("membership according to the history", ends, shown)


def _users_against_service(tails: TopicTails, traffic: Traffic) -> list[str]:
    accounts = {user_id: document["account"] for user_id, document in documents(tails).items()}
    expected = {user_id: traffic.states.get(user_id, "deleted") for user_id in accounts}
    return compare("account of", accounts, expected)
