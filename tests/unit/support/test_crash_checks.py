"""The checks of the crash tests pass on correct outputs and detect every corruption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from segments.settings import Settings
from segments.state.history.sqlite import open_writer
from segments.state.machine.config import LogRecord
from segments.state.machine.digest import MemoryState
from segments.state.machine.documents import USER_PREFIX
from segments.state.machine.outputs import public_document
from segments.state.machine.shard import Shard
from segments.streams.history import decode
from segments.streams.shards import shard_config
from tests.support.crash.command_checks import command_differences
from tests.support.crash.oracle_checks import oracle_differences
from tests.support.crash.topic_tails import TOPICS, Entry, TopicTail, TopicTails
from tests.support.crash.traffic import Traffic
from tests.support.machine.hosted_shard import encoded

BEGIN_MS = 1_795_500_000_000
USERS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(6)]


class World:
    """A deployment of one shard in memory: its topics, its history store, the sent commands."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, partitions=1)
        self.topics = {name: TopicTail(1) for name in TOPICS}
        self.commands: dict[str, dict[str, Any]] = {}
        self._state = MemoryState()
        self._shard = Shard(shard_config(self.settings, 0), self._state)
        self._log: list[tuple[str, dict[str, Any], bool]] = []

    def command(self, kind: str, **fields: Any) -> None:
        command_id = f"c{len(self.commands)}"
        self.commands[command_id] = fields
        self._log.append((kind, {"id": command_id, **fields}, True))

    def record(self, kind: str, **fields: Any) -> None:
        self._log.append((kind, fields, False))

    def run(self) -> None:
        """Apply the log and what it appends to itself."""
        while len(self.topics["segments.shards"].records[0]) < len(self._log):
            offset = len(self.topics["segments.shards"].records[0])
            kind, value, routed = self._log[offset]
            at_ms = BEGIN_MS + 100 * offset
            headers = {"type": kind.encode()}
            if routed:
                headers["src"] = f"t:0:{offset}".encode()
            self._add("segments.shards", None, orjson.dumps(value), at_ms, headers)
            source = ("t:0", offset) if routed else None
            for output in encoded(self._shard.apply(LogRecord(kind, value, offset, at_ms, source))):
                if output.type is not None:
                    self.record(output.type, **orjson.loads(output.value))
                elif output.topic in self.topics:
                    self._add(output.topic, output.key.encode(), output.value, at_ms, {})

    def publish(self) -> None:
        """Fill the documents and the store."""
        for key, user in self._state.scan(USER_PREFIX):
            document = orjson.dumps(public_document(0, key[1:].decode(), user))
            self._add("segments.users", key[1:], document, BEGIN_MS, {})
        rows = [
            decode(0, entry.offset, entry.key, entry.value)
            for entry in self.topics["segments.history"].all()
        ]
        writer = open_writer(self.settings, "topic")
        writer.append(0, [row for row in rows if row is not None], len(rows))
        writer.close()

    def _add(
        self, topic: str, key: bytes | None, value: bytes, at_ms: int, headers: dict[str, bytes]
    ) -> None:
        records = self.topics[topic].records[0]
        records.append(Entry(0, len(records), at_ms, key, value, headers))

    def differences(self) -> list[str]:
        tails = cast(TopicTails, self.topics)
        states = dict.fromkeys(USERS[:5], "active")
        sent = SimpleNamespace(commands=self.commands, invalid=set(), sent=Counter(), states=states)
        return oracle_differences(tails, self.settings) + command_differences(
            tails, cast(Traffic, sent)
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Six users, three segments; expiries, a deletion, a deleted user, deferred commands."""
    world = World(tmp_path)
    for name in ("a", "b"):
        world.command("create", segment=name, description=None)
    for number, user_id in enumerate(USERS):
        account = "deleted" if number == 5 else "active"
        world.record("user", user_id=user_id, account=account, version=1, refresh=["r", 0, number])
    world.run()
    for user_id in USERS:
        ends = [["a", None, None], ["b", 1_000, None]]
        world.command("change", user_id=user_id, add=ends, remove=[])
        world.command("change", user_id=user_id, add=[["c", None, None]], remove=["a"])
    world.command("create", segment="c", description="late")
    world.run()
    for _ in range(10):
        world.record("tick")
    world.command("delete", segment="c")
    world.run()
    world.record("tick")
    world.run()
    world.publish()
    return world


def test_correct_outputs_have_no_differences(world: World) -> None:
    assert world.differences() == []
    rows = [entry.json for entry in world.topics["segments.history"].all()]
    causes = Counter((row["cause"], row["operation"]) for row in rows)
    assert causes == {
        ("command", "add"): 15,
        ("command", "remove"): 5,
        ("expired", "remove"): 5,
        ("segment_deleted", "remove"): 5,
    }


def records(world: World, topic: str) -> list[Entry]:
    return world.topics[topic].records[0]


def change(world: World, topic: str, number: int, **fields: Any) -> None:
    entry = records(world, topic)[number]
    value = orjson.dumps(entry.json | fields)
    records(world, topic)[number] = entry._replace(value=value)


CORRUPTIONS: dict[str, Callable[[World], Any]] = {
    "a history row is lost": lambda w: records(w, "segments.history").pop(3),
    "a history row is duplicated": lambda w: records(w, "segments.history").append(
        records(w, "segments.history")[0]
    ),
    "a history row has another user": lambda w: change(w, "segments.history", 1, user_id=USERS[4]),
    "an expiry has another time": lambda w: change(
        w, "segments.history", -1, at="2026-11-24T09:00:00.000Z"
    ),
    "a result is lost": lambda w: records(w, "segments.results").pop(5),
    "a command has two different results": lambda w: records(w, "segments.results").append(
        records(w, "segments.results")[2]._replace(
            value=orjson.dumps(records(w, "segments.results")[2].json | {"changes": []})
        )
    ),
    "a document has an expired segment": lambda w: change(
        w,
        "segments.users",
        0,
        segments={"a": {"since": 1, "expires_at": None, "origin": "command", "generation": 1}},
    ),
    "a document has an old state": lambda w: change(w, "segments.users", 1, account="blocked"),
    "a definition was not published": lambda w: records(w, "segments.definitions").pop(0),
    "a command is not in the log": lambda w: w.commands.update({"lost": {}}),
    "a row is not in the store": lambda w: records(w, "segments.history").append(
        records(w, "segments.history")[0]._replace(offset=99)
    ),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=list(CORRUPTIONS))
def test_every_corruption_is_detected(world: World, corrupt: Callable[[World], Any]) -> None:
    corrupt(world)
    assert world.differences() != []
