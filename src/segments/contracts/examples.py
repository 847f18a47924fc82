"""Examples of every message type, validated against its schema by the tests."""

from __future__ import annotations

from typing import Any, NamedTuple

from segments.contracts.commands import COMMAND_ADAPTER, COMMAND_TYPES, ChangeMemberships
from segments.contracts.topics import (
    COMMANDS_TOPIC,
    DEFINITIONS_TOPIC,
    DLQ_TOPIC,
    HISTORY_TOPIC,
    REFRESHES_TOPIC,
    RESULTS_TOPIC,
    SHARDS_TOPIC,
    USER_EVENTS_TOPIC,
    USERS_TOPIC,
)


class Example(NamedTuple):
    """A message: its value and the relevant headers."""

    payload: Any
    headers: dict[str, str] | None = None


_CHANGE = {"type": "change_memberships"} | ChangeMemberships.examples[0]
_USER: str = _CHANGE["user_id"]
_TOPIC_ID = "5f0f0be0a5b44b6c8a3f6f2ad2c0c9d1"
_SOURCE = f"{_TOPIC_ID}:3:1041"
_ID: str = _CHANGE["id"]
_INSTANT = "2026-11-24T22:17:45.625Z"
_AT = 1795558665625
_RULE = {
    "ppm": 125000,
    "count": None,
    "include": ["beta"],
    "exclude": [],
    "accounts": ["active"],
    "ttl_ms": 2592000000,
    "newcomers": True,
}
_ROUND = {"segment": "tenth", "generation": 1, "round": 1}
_PLACE = [2305843009213693951, "cd613e30d8f14adf91b7584a2265b1f5"]
_DEFINITION = {
    "segment": "beta",
    "generation": 1,
    "version": 1,
    "state": "active",
    "description": "the beta segment",
    "created_at": _AT,
    "auto": None,
    "position": "0:183",
}
_ASSIGNED = _DEFINITION | {
    "segment": "tenth",
    "version": 3,
    "auto": {
        "percent": 12.5,
        "count": None,
        "include": ["beta"],
        "exclude": [],
        "accounts": ["active"],
        "ttl_ms": 2592000000,
        "newcomers": True,
        "threshold": "1fffffffffffffff",
        "target": 125,
        "assigned": 125,
        "skipped": 0,
    },
}
_RESULT = {
    "command_id": _ID,
    "status": "applied",
    "error": None,
    "changes": [{"segment": "beta", "operation": "add"}],
    "position": "0:448",
    "at": _INSTANT,
}
_REJECTED = _RESULT | {
    "status": "rejected",
    "error": {"code": "segment_unknown", "detail": "no such segment", "segments": ["beta"]},
    "changes": [],
}
_ROW = {
    "user_id": _USER,
    "segment": "beta",
    "generation": 1,
    "operation": "add",
    "at": _INSTANT,
    "cause": "command",
    "command_id": _ID,
    "actor": "shop",
    "expires_at": None,
}
_EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "shop.order.paid"}
_BINARY_EVENT = {"content-type": "application/json"} | {f"ce_{k}": v for k, v in _EVENT.items()}


def _event_headers(event_type: str, source: str, event_id: str, subject: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": source,
        "ce_type": event_type,
        "ce_time": _INSTANT,
        "ce_subject": subject,
    }


def _log(log_type: str, value: dict[str, Any], *, source: bool = False) -> Example:
    return Example(value, {"type": log_type} | ({"src": _SOURCE} if source else {}))


_LOG_SOURCE = f"/segments.shards/{_TOPIC_ID}"
_STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}


def _commands() -> dict[tuple[str, str], tuple[Example, ...]]:
    """The examples of each command type, and the log records that the router makes of them."""
    found: dict[tuple[str, str], tuple[Example, ...]] = {}
    for name, command in COMMAND_TYPES.items():
        values = [{"type": name} | example for example in command.examples]
        records = [COMMAND_ADAPTER.validate_python(value).log_record("") for value in values]
        found[COMMANDS_TOPIC, name] = tuple(Example(value) for value in values)
        found[SHARDS_TOPIC, command.log_type] = tuple(
            _log(log_type, value, source=True) for log_type, _, value in records
        )
    found[COMMANDS_TOPIC, "change_memberships"] += (Example(_CHANGE, _BINARY_EVENT),)
    return found


EXAMPLES: dict[tuple[str, str], tuple[Example, ...]] = {
    **_commands(),
    (COMMANDS_TOPIC, "cloud_event"): (Example(_EVENT | {"data": _CHANGE}, _STRUCTURED),),
    (USER_EVENTS_TOPIC, "user_event"): (
        Example({"user_id": _USER, "reason": "address changed"}),
        Example({"user_id": _USER}, _BINARY_EVENT | {"ce_type": "user.changed"}),
    ),
    (USER_EVENTS_TOPIC, "cloud_event"): (
        Example(_EVENT | {"data": {"user_id": _USER}}, _STRUCTURED),
    ),
    (REFRESHES_TOPIC, "refresh"): (
        Example({"user_id": _USER, "reason": "event"}),
        Example({"user_id": _USER, "reason": "manual", "state": "blocked"}),
    ),
    (SHARDS_TOPIC, "user"): (
        _log(
            "user",
            {"user_id": _USER, "account": "active", "version": 3, "refresh": [_TOPIC_ID, 3, 17]},
        ),
    ),
    (SHARDS_TOPIC, "define"): (
        _log("define", _DEFINITION | {"command_id": "s-5", "actor": None}),
        _log(
            "define",
            _ASSIGNED
            | {
                "command_id": "s-2",
                "actor": None,
                "known": {"rule": _RULE, "threshold": _PLACE},
            },
        ),
    ),
    (SHARDS_TOPIC, "tick"): (_log("tick", {}),),
    (SHARDS_TOPIC, "survey"): (
        _log("survey", _ROUND | {"rule": _RULE}),
        _log("survey", {"preview": "p-1", "rule": _RULE}),
    ),
    (SHARDS_TOPIC, "surveyed"): (
        _log("surveyed", {"preview": "p-1", "partition": 3, "eligible": 125}),
    ),
    (SHARDS_TOPIC, "refine"): (_log("refine", _ROUND | {"bucket": 511}),),
    (SHARDS_TOPIC, "refined"): (_log("refined", _ROUND | {"partition": 3, "places": [_PLACE]}),),
    (SHARDS_TOPIC, "select"): (
        _log(
            "select",
            _ROUND | {"chosen": _PLACE, "threshold": _PLACE, "command_id": "s-2", "actor": None},
        ),
    ),
    (SHARDS_TOPIC, "selected"): (
        _log("selected", _ROUND | {"partition": 3, "assigned": 16, "skipped": 0}),
    ),
    (USERS_TOPIC, "user"): (
        Example(
            {
                "user_id": _USER,
                "account": "active",
                "segments": {
                    "trial": {
                        "since": _AT,
                        "expires_at": 1796163494885,
                        "origin": "command",
                        "generation": 1,
                    }
                },
                "position": "0:449",
                "at": 1795558837049,
            }
        ),
    ),
    (USERS_TOPIC, "progress"): (
        Example(
            {
                "log_offset": 449,
                "log_time": 1795558837050,
                "at": 1795558837049,
                "history_rows": 92,
                "defined": 183,
            }
        ),
    ),
    (DEFINITIONS_TOPIC, "definition"): (Example(_DEFINITION), Example(_ASSIGNED)),
    (RESULTS_TOPIC, "result"): (
        Example(_RESULT),
        Example(
            _REJECTED, _event_headers("segments.command.rejected", _LOG_SOURCE, "0:448:0", _ID)
        ),
    ),
    (RESULTS_TOPIC, "preview_result"): (
        Example(
            _RESULT
            | {
                "command_id": "p-1",
                "status": "unchanged",
                "changes": [],
                "preview": {"eligible": 1000, "target": 50},
            }
        ),
    ),
    (HISTORY_TOPIC, "row"): (
        Example(_ROW),
        Example(_ROW, _event_headers("segments.membership.add", _LOG_SOURCE, "0:448:1", _USER)),
    ),
    (DLQ_TOPIC, "dead_letter"): (
        Example(
            '{"type": "create_segmet"}',
            {
                "__connect.errors.topic": "segments.commands",
                "__connect.errors.partition": "3",
                "__connect.errors.offset": "1041",
                "__connect.errors.stage": "validate",
                "__connect.errors.exception.class.name": "invalid",
                "__connect.errors.exception.message": "type: no such command",
            },
        ),
    ),
}
