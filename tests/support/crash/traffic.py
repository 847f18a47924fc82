"""Sends commands and user events as other services do, and records what was sent."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
from confluent_kafka import Producer

from segments.contracts.times import to_rfc3339
from segments.settings import Settings
from tests.support.user_service import UserService

SEGMENTS = [f"segment-{n}" for n in range(12)]
UNKNOWN_USERS = 15
"""Number of users in commands that the user service does not know."""
_SHORT_MS = (300, 6_000)
_LONG_MS = 86_400_000
_FLUSH_TIMEOUT_S = 120.0


class Traffic:
    """Sends until it is stopped, the same commands in the same order for one seed.

    `commands`: id -> command, of those that must have a result. `invalid`: ids of those that the
    router must reject.
    """

    def __init__(self, settings: Settings, service: UserService, seed: int, rate: float) -> None:
        self._settings = settings
        self._service = service
        self._random = random.Random(seed)
        self._pause_s = 1.0 / rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._failure: BaseException | None = None
        config = settings.client_config() | {
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            "linger.ms": 2,
            "log_level": 0,
        }
        self._producers = [
            Producer(config | {"partitioner": "murmur2_random"}),
            Producer(config | {"partitioner": "consistent_random"}),
        ]
        self._users = service.ids()
        self._users += [_uuid(self._random) for _ in range(UNKNOWN_USERS)]
        self._known = set(service.ids())
        self.commands: dict[str, dict[str, Any]] = {}
        self.invalid: set[str] = set()
        self.sent: Counter[str] = Counter()
        self.states: dict[str, str] = dict.fromkeys(self._known, "active")
        """Final state of each user in the user service; missing users are deleted."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop and flush; raises the error of the sending thread, if any."""
        self._stopping.set()
        self._thread.join(_FLUSH_TIMEOUT_S)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        for producer in self._producers:
            assert producer.flush(_FLUSH_TIMEOUT_S) == 0

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Send while the block runs; everything is flushed at its end."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def _run(self) -> None:
        try:
            for name in SEGMENTS[:-2]:
                self._command("create_segment", name, segment=name)
            while not self._stopping.wait(self._pause_s):
                self._act()
            self._service.fault()
        except BaseException as error:  # noqa: BLE001 - raised by stop()
            self._failure = error

    def _act(self) -> None:
        act = self._random.choices(
            [
                self._change,
                self._segment_command,
                self._repeated_command,
                self._invalid_command,
                self._user_event,
                self._user_service_fault,
            ],
            weights=[78, 6, 4, 1, 10, 0.3],
        )[0]
        act()

    # --- commands ---

    def _change(self) -> None:
        user_id = self._random.choice(self._users)
        names = self._random.sample(SEGMENTS, self._random.randint(1, 4))
        split = self._random.randint(0, len(names))
        add = [self._addition(name) for name in names[split:]]
        self._command("change_memberships", user_id, user_id=user_id, add=add, remove=names[:split])

    def _addition(self, segment: str) -> str | dict[str, Any]:
        kind = self._random.random()
        short_ms = self._random.randint(*_SHORT_MS)
        if kind < 0.5:
            return segment
        if kind < 0.75:
            return {"segment": segment, "ttl": short_ms / 1000}
        if kind < 0.9:
            # May be in the past when it is applied, and is rejected then.
            return {"segment": segment, "expires_at": to_rfc3339(_now_ms() + short_ms)}
        return {"segment": segment, "ttl": _LONG_MS // 1000}

    def _segment_command(self) -> None:
        name = self._random.choice(SEGMENTS[6:])
        kind = self._random.choice(
            ["create_segment", "create_segment", "update_segment", "delete_segment"]
        )
        fields = {} if kind == "delete_segment" else {"description": f"{len(self.commands)}"}
        self._command(kind, name, segment=name, **fields)

    def _command(self, kind: str, key: str, **fields: Any) -> None:
        command = {"type": kind, "id": _uuid(self._random), "actor": "traffic", **fields}
        self.commands[command["id"]] = command
        self._produce_command(key, command)

    def _repeated_command(self) -> None:
        """Repeat a recent command, possibly with another producer or key."""
        recent = list(self.commands.values())[-20:]
        command = self._random.choice(recent)
        self.sent["repeated"] += 1
        self._produce_command(command.get("user_id") or command["segment"], command)

    def _invalid_command(self) -> None:
        command_id = _uuid(self._random)
        self.invalid.add(command_id)
        self._produce_command("k", {"type": "change_memberships", "id": command_id, "wrong": 1})

    def _produce_command(self, key: str, command: dict[str, Any]) -> None:
        self.sent["commands"] += 1
        producer = self._random.choice(self._producers)
        keyed = self._random.random() < 0.7
        self._produce(producer, "segments.commands", key if keyed else None, command)

    def _produce(self, producer: Producer, topic: str, key: str | None, value: Any) -> None:
        producer.produce(self._settings.topic(topic), orjson.dumps(value), key)
        producer.poll(0)

    # --- users ---

    def _user_event(self) -> None:
        user_id = self._random.choice(self._users)
        kind = self._random.random()
        if user_id in self._known and kind < 0.6:
            self.states[user_id] = self._random.choice(["active", "blocked"])
            self._service.put(user_id, self.states[user_id])
        elif user_id in self._known and kind < 0.65:
            # Deleted users stay deleted: a new user would restart its versions at 1.
            self._known.discard(user_id)
            self.states.pop(user_id)
            self._service.delete(user_id)
        for _ in range(self._random.choice([1, 1, 1, 2])):
            self.sent["events"] += 1
            producer = self._random.choice(self._producers)
            key = self._random.choice([user_id, None])
            self._produce(producer, "users.events", key, {"user_id": user_id})

    def _user_service_fault(self) -> None:
        if self._random.random() < 0.5:
            self._service.fault()
        else:
            self._service.fault(**self._random.choice([{"status": 503}, {"delay_ms": 700}]))


def _uuid(numbers: random.Random) -> str:
    return str(uuid.UUID(int=numbers.getrandbits(128), version=4))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
