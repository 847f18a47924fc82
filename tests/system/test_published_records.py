"""Everything that an eventful deployment leaves on its topics is as the published schemas say.

The deployment produces CloudEvents as well, loses its shards process on the way, and its view and
its history are what they would be without either.
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
"""Numbers of users to whom something happens."""
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


class Story:
    """What is done to the deployment, and what stands on its topics afterwards."""

    def __init__(self, deployment: Deployment, service: UserService) -> None:
        self._deployment = deployment
        self.settings = deployment.settings
        self.api = deployment.api
        self._service = service
        self.users = sorted(service.ids())

    def run(self) -> None:
        """From the first user to the last expiry."""
        self._tell_of_users()
        self._make_segments()
        self._change_memberships()
        self._die_and_go_on()
        self._end()

    def _send(self, *commands: dict[str, Any]) -> None:
        for command in commands:
            key = str(command.get("user_id", command.get("segment", ""))).encode()
            send(self.settings, "segments.commands", [orjson.dumps(command)], key=key)

    def results(self) -> dict[str, dict[str, Any]]:
        return {r.json["command_id"]: r.json for r in read(self.settings, "segments.results")}

    def _wait(self, *command_ids: str) -> None:
        for command_id in command_ids:
            deployments.wait_until(partial(self._decided, command_id), what=f"{command_id}'s end")

    def _decided(self, command_id: str) -> bool:
        return self.api.get(f"/v1/commands/{command_id}").json().get("status") in STATUSES

    def _tell_of_users(self) -> None:
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
        answer = self.api.get(f"/v1/users/{user}/segments")
        return answer.json()["account"] if answer.status_code == 200 else None

    def _make_segments(self) -> None:
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

    def _die_and_go_on(self) -> None:
        """The shards process is killed while changes flow: its replay gives nothing twice."""
        numbers = range(3, USERS)
        changes = [self.change(f"c-{n}", n, add=["gone"]) for n in numbers]
        self._send(*changes[:10])
        self._deployment.process("shards").kill()
        self._send(*changes[10:])
        self._deployment.start("shards")
        self._wait(*(f"c-{n}" for n in numbers))

    def _end(self) -> None:
        self._send({"type": "delete_segment", "id": "delete", "segment": "gone"})
        self._service.delete(self.users[DELETED])
        send(self.settings, "users.events", [orjson.dumps({"user_id": self.users[DELETED]})])
        self._wait("delete")
        deployments.wait_until(self._over, what="the end of all that was begun", poll_s=0.3)

    def _over(self) -> bool:
        causes = Counter(row["cause"] for row in self.rows())
        return causes["segment_deleted"] >= USERS - 3 + 1 and causes["user_deleted"] >= 1

    def rows(self) -> list[dict[str, Any]]:
        return [record.json for record in read(self.settings, "segments.history")]

    @cached_property
    def records(self) -> dict[str, list[Read]]:
        """Every record of every topic, by the topic's name in topics.yaml, when all was over."""
        bare = self.settings.kafka.model_copy(update={"prefix": ""})
        as_named = self.settings.model_copy(update={"kafka": bare})
        return {
            topic.name: read(as_named, topic.on_cluster(self.settings)) for topic in topics.load()
        }


@pytest.fixture(scope="module")
def story(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
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
        told = Story(deployment, service)
        told.run()
        yield told
        deployment.api.close()
        service.close()


def test_every_record_matches_exactly_one_message_type(story: Story) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    strays: list[tuple[str, Any]] = []
    for topic, records in story.records.items():
        for record in records:
            kinds = published_schemas.matching_types(
                topic, record.value, record.headers, record.key
            )
            if len(kinds) == 1:
                counts[topic, kinds[0]] += 1
            else:
                strays.append((topic, (kinds, record)))
    malformed = [value for value, _, _ in MALFORMED] + [b'{"user": 5}']
    assert sorted(record.value for _, (kinds, record) in strays) == sorted(malformed), [
        (topic, kinds, published_schemas.validation_errors(topic, record.json))
        for topic, (kinds, record) in strays
        if record.value not in malformed
    ]
    for (topic, kind), count in sorted(counts.items()):
        print(f"{count:6} {topic} {kind}")
    assert set(counts) == {(kind.topic, kind.name) for kind in MESSAGE_TYPES}


def test_malformed_records_are_dead_lettered_with_the_reason(story: Story) -> None:
    prefix = "__connect.errors."
    found = Counter(
        (record.value, record.headers[f"{prefix}exception.class.name"].decode())
        for record in story.records["segments.dlq"]
    )
    expected = Counter((value, reason) for value, _, reason in MALFORMED)
    assert found == expected + Counter([(b'{"user": 5}', "invalid")])


def test_results_and_rows_are_events_with_unique_ids(story: Story) -> None:
    for topic in ("segments.results", "segments.history"):
        records = story.records[topic]
        assert all(record.headers["ce_specversion"] == b"1.0" for record in records)
        names = [(record.headers["ce_source"], record.headers["ce_id"]) for record in records]
        assert len(set(names)) == len(names) > USERS
        for record in records:
            assert record.headers["ce_time"].decode() == record.json["at"]
            assert record.headers["ce_subject"] == record.key
    types = Counter(r.headers["ce_type"].decode() for r in story.records["segments.results"])
    assert set(types) == {f"segments.command.{status}" for status in STATUSES}
    types = Counter(r.headers["ce_type"].decode() for r in story.records["segments.history"])
    assert set(types) == {f"segments.membership.{o}" for o in ("add", "remove", "extend")}


def test_result_event_ids_have_the_log_position(story: Story) -> None:
    for record in story.records["segments.results"]:
        position = record.json["position"]
        if position is not None:
            assert record.headers["ce_id"].decode().startswith(f"{position}:")
        else:
            assert b".segments.commands/" in record.headers["ce_source"]


def test_every_cause_and_operation_occurs(story: Story) -> None:
    rows = [record.json for record in story.records["segments.history"]]
    assert {row["cause"] for row in rows} == {
        "command",
        "auto",
        "expired",
        "segment_deleted",
        "user_deleted",
    }
    codes = {result["error"]["code"] for result in story.results().values() if result["error"]}
    assert {"invalid", "segment_unknown"} <= codes


def test_view_and_history_match_the_topic(story: Story) -> None:
    """Both tell of every user what its rows on the topic add up to."""
    held: dict[str, set[str]] = {user: set() for user in story.users}
    rows = Counter(row["user_id"] for row in story.rows())
    for row in story.rows():
        if row["operation"] == "remove":
            held[row["user_id"]].discard(row["segment"])
        else:
            held[row["user_id"]].add(row["segment"])
    assert held[story.users[HELD]] >= {"beta"}
    assert held.pop(story.users[DELETED]) == set()
    assert sum("half" in segments for segments in held.values()) >= USERS // 2
    for user, segments in held.items():
        assert set(story.api.segments_of(user)) == segments
        history = story.api.history(user, limit=100).json()["items"]
        assert len(history) == rows[user]
