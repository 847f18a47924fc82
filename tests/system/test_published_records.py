"""All records of a deployment match the published schemas.

The deployment also produces CloudEvents, and its shards process is killed during the test; neither
affects the view and the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import orjson
import pytest

from segments.contracts.messages import MESSAGE_TYPES
from segments.kafka import topics
from segments.process.ports import free_port
from tests.support import deployments, published_schemas
from tests.support.api import Deployment
from tests.support.records import Read, read, send
from tests.support.user_service import UserService

pytestmark = pytest.mark.timeout(300)

USERS = 40
DELETED, HELD, SHORT = 0, 1, 2
"""Indexes of users with a special role."""
STATUSES = ("applied", "unchanged", "rejected")
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=utf-8")]
BINARY = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"binary-1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"shop.order.paid"),
    ("ce_dataschema", b"https://example.com/not-looked-at"),
    ("content-type", b"application/json"),
]
MALFORMED: list[tuple[bytes, list[tuple[str, bytes]], str]] = [
    (b"{", [], "not_json"),
    (b'{"type": "create_segmet", "id": "bad-type"}', [], "invalid"),
    (b'{"type": "delete_segment", "id": "bad-name", "segment": "a b"}', [], "invalid"),
    (b"[]", [("content-type", b"application/cloudevents-batch+json")], "cloud_event"),
    (b'{"specversion": "0.3", "id": "e", "source": "/s", "type": "t"}', STRUCTURED, "cloud_event"),
    (b'{"type": "delete_segment", "segment": "beta"}', BINARY[:1], "cloud_event"),
    (b'{"type": "delete_segment"}', [*BINARY[:4], ("content-type", b"text/csv")], "cloud_event"),
]


def cloud_event(event_id: str, data: Any) -> bytes:
    event = {"specversion": "1.0", "id": event_id, "source": "/shop", "type": "t", "data": data}
    return orjson.dumps(event | {"traceparent": "00-x", "subject": None, "datacontenttype": None})


class Scenario:
    """Runs the scenario on a deployment, and reads the resulting records."""

    def __init__(self, deployment: Deployment, service: UserService) -> None:
        self._deployment = deployment
        self.settings = deployment.settings
        self.api = deployment.api
        self._service = service
        self.users = sorted(service.ids())

    def run(self) -> None:
        """Run all steps, from the first user to the last expiry."""
        self._announce_users()
        self._create_segments()
        self._change_memberships()
        self._kill_shards_during_changes()
        self._delete()

    def _send(self, *commands: dict[str, Any]) -> None:
        for command in commands:
            key = str(command.get("user_id", command.get("segment", ""))).encode()
            send(self.settings, "segments.commands", [orjson.dumps(command)], key=key)

    def results(self) -> dict[str, dict[str, Any]]:
        return {r.json["command_id"]: r.json for r in read(self.settings, "segments.results")}

    def _wait(self, *command_ids: str) -> None:
        for command_id in command_ids:
            deployments.wait_until(
                partial(self._decided, command_id), what=f"the result of {command_id}"
            )

    def _decided(self, command_id: str) -> bool:
        return self.api.get(f"/v1/commands/{command_id}").json().get("status") in STATUSES

    def _announce_users(self) -> None:
        events = [orjson.dumps({"user_id": user, "more": "ignored"}) for user in self.users[3:]]
        send(self.settings, "users.events", [*events])
        structured = [cloud_event(user, {"user_id": user}) for user in self.users[:2]]
        send(self.settings, "users.events", [*structured], headers=STRUCTURED)
        value = orjson.dumps({"user_id": self.users[2]})
        send(self.settings, "users.events", [value], headers=BINARY)
        send(self.settings, "users.events", [b'{"user": 5}'])
        deployments.wait_until(
            lambda: all(self.account(user) == "active" for user in self.users), what="the users"
        )

    def account(self, user: str) -> str | None:
        response = self.api.get(f"/v1/users/{user}/segments")
        return response.json()["account"] if response.status_code == 200 else None

    def _create_segments(self) -> None:
        for name in ("beta", "gone"):
            self._send({"type": "create_segment", "id": f"create-{name}", "segment": name})
        self._wait("create-beta", "create-gone")
        auto = {"percent": 50, "exclude": ["beta"], "ttl": "P30D", "newcomers": True}
        half = {"type": "create_segment", "segment": "half", "auto": auto}
        send(self.settings, "segments.commands", [cloud_event("half", half)], headers=STRUCTURED)
        self._send({"type": "preview_segment", "id": "preview", "auto": {"count": 3}})
        self._wait("preview")
        deployments.wait_until(
            lambda: self.definition("half")["state"] == "active", what="the half"
        )
        more = {"type": "update_segment", "id": "more", "segment": "half"}
        self._send(more | {"auto": auto | {"percent": 75}, "description": "three quarters"})
        self._wait("more")
        deployments.wait_until(
            lambda: self.definition("half")["state"] == "active", what="the rest"
        )

    def definition(self, segment: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/v1/segments/{segment}").json()
        return {"state": None} | found

    def change(self, command_id: str, number: int, **fields: Any) -> dict[str, Any]:
        user = self.users[number]
        return {"type": "change_memberships", "id": command_id, "user_id": user, **fields}

    def _change_memberships(self) -> None:
        by_event = self.change("", HELD, add=["beta"])
        del by_event["id"]
        send(self.settings, "segments.commands", [orjson.dumps(by_event)], headers=BINARY)
        later = {"segment": "beta", "ttl": "P1D"}
        self._send(
            self.change("deleted", DELETED, add=["beta", "gone"], actor="shop"),
            self.change("short", SHORT, add=[{"segment": "beta", "ttl": 0.05}, "gone"]),
            self.change("longer", HELD, add=[later]),
            self.change("unknown", HELD, add=["no-such-segment"]),
            self.change("nothing", HELD, remove=["gone"]),
        )
        for value, headers, _ in MALFORMED:
            send(self.settings, "segments.commands", [value], headers=headers)
        self._wait("deleted", "short", "longer", "unknown", "nothing", "bad-type", "bad-name")

    def _kill_shards_during_changes(self) -> None:
        """Kill the shards process during changes; its replay must not duplicate records."""
        numbers = range(3, USERS)
        changes = [self.change(f"c-{n}", n, add=["gone"]) for n in numbers]
        self._send(*changes[:10])
        self._deployment.process("shards").kill()
        self._send(*changes[10:])
        self._deployment.start("shards")
        self._wait(*(f"c-{n}" for n in numbers))

    def _delete(self) -> None:
        self._send({"type": "delete_segment", "id": "delete", "segment": "gone"})
        self._service.delete(self.users[DELETED])
        send(self.settings, "users.events", [orjson.dumps({"user_id": self.users[DELETED]})])
        self._wait("delete")
        deployments.wait_until(self._all_removed, what="all removals", poll_s=0.3)

    def _all_removed(self) -> bool:
        causes = Counter(row["cause"] for row in self.rows())
        return causes["segment_deleted"] >= USERS - 3 + 1 and causes["user_deleted"] >= 1

    def rows(self) -> list[dict[str, Any]]:
        return [record.json for record in read(self.settings, "segments.history")]

    @cached_property
    def records(self) -> dict[str, list[Read]]:
        """All records at the end, by topic name in topics.yaml."""
        bare = self.settings.kafka.model_copy(update={"prefix": ""})
        as_named = self.settings.model_copy(update={"kafka": bare})
        return {
            topic.name: read(as_named, topic.on_cluster(self.settings)) for topic in topics.load()
        }


@pytest.fixture(scope="module")
def scenario(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    url = f"http://127.0.0.1:{free_port()}"
    with deployments.deployment(
        broker,
        tmp_path_factory.mktemp("contracts") / "data",
        tick_interval_ms=200,
        kafka={"cloudevents": True},
        limits={"park_ms": 200},
        user_service={"base_url": url, "backoff_ms": 20, "backoff_max_ms": 200},
    ) as settings:
        service = UserService(settings)
        service.start(USERS)
        deployment = Deployment(settings)
        deployment.start("router", "users", "shards", "history", "http")
        deployment.wait_until_ready()
        scenario = Scenario(deployment, service)
        scenario.run()
        yield scenario
        deployment.api.close()
        service.close()


def test_every_record_matches_exactly_one_message_type(scenario: Scenario) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    mismatches: list[tuple[str, Any]] = []
    for topic, records in scenario.records.items():
        for record in records:
            types = published_schemas.matching_types(
                topic, record.value, record.headers, record.key
            )
            if len(types) == 1:
                counts[topic, types[0]] += 1
            else:
                mismatches.append((topic, (types, record)))
    malformed = [value for value, _, _ in MALFORMED] + [b'{"user": 5}']
    assert sorted(record.value for _, (types, record) in mismatches) == sorted(malformed), [
        (topic, types, published_schemas.validation_errors(topic, record.json))
        for topic, (types, record) in mismatches
        if record.value not in malformed
    ]
    for (topic, name), count in sorted(counts.items()):
        print(f"{count:6} {topic} {name}")
    assert set(counts) == {(message.topic, message.name) for message in MESSAGE_TYPES}


def test_malformed_records_are_dead_lettered_with_the_reason(scenario: Scenario) -> None:
    prefix = "__connect.errors."
    found = Counter(
        (record.value, record.headers[f"{prefix}exception.class.name"].decode())
        for record in scenario.records["segments.dlq"]
    )
    expected = Counter((value, reason) for value, _, reason in MALFORMED)
    assert found == expected + Counter([(b'{"user": 5}', "invalid")])


def test_results_and_rows_are_events_with_unique_ids(scenario: Scenario) -> None:
    for topic in ("segments.results", "segments.history"):
        records = scenario.records[topic]
        assert all(record.headers["ce_specversion"] == b"1.0" for record in records)
        ids = [(record.headers["ce_source"], record.headers["ce_id"]) for record in records]
        assert len(set(ids)) == len(ids) > USERS
        for record in records:
            assert record.headers["ce_time"].decode() == record.json["at"]
            assert record.headers["ce_subject"] == record.key
    types = Counter(r.headers["ce_type"].decode() for r in scenario.records["segments.results"])
    assert set(types) == {f"segments.command.{status}" for status in STATUSES}
    types = Counter(r.headers["ce_type"].decode() for r in scenario.records["segments.history"])
    assert set(types) == {f"segments.membership.{o}" for o in ("add", "remove", "extend")}


def test_result_event_ids_have_the_log_position(scenario: Scenario) -> None:
    for record in scenario.records["segments.results"]:
        position = record.json["position"]
        if position is not None:
            assert record.headers["ce_id"].decode().startswith(f"{position}:")
        else:
            assert b".segments.commands/" in record.headers["ce_source"]


def test_every_cause_and_operation_occurs(scenario: Scenario) -> None:
    rows = [record.json for record in scenario.records["segments.history"]]
    assert {row["cause"] for row in rows} == {
        "command",
        "auto",
        "expired",
        "segment_deleted",
        "user_deleted",
    }
    codes = {result["error"]["code"] for result in scenario.results().values() if result["error"]}
    assert {"invalid", "segment_unknown"} <= codes


def test_view_and_history_match_the_topic(scenario: Scenario) -> None:
    """For every user, both match the rows on the topic."""
    expected: dict[str, set[str]] = {user: set() for user in scenario.users}
    rows = Counter(row["user_id"] for row in scenario.rows())
    for row in scenario.rows():
        if row["operation"] == "remove":
            expected[row["user_id"]].discard(row["segment"])
        else:
            expected[row["user_id"]].add(row["segment"])
    assert expected[scenario.users[HELD]] >= {"beta"}
    assert expected.pop(scenario.users[DELETED]) == set()
    assert sum("half" in segments for segments in expected.values()) >= USERS // 2
    for user, segments in expected.items():
        assert set(scenario.api.segments_of(user)) == segments
        history = scenario.api.history(user, limit=100).json()["items"]
        assert len(history) == rows[user]
