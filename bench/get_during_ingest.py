"""GET /v1/users/{id}/segments while the pipeline processes commands.

    python -m bench.get_during_ingest

Router, shards, history and http run as in a deployment. Commands are produced at a steady rate; the
run is valid only if the view has the results of all of them. GETs are sent as fast as possible,
which uses all CPU time there is, and then at a steady rate; each time to the http process and to
the bare handler (bench/_bare.py), which does not process commands: its slowdown compared with an
idle machine is the cost of sharing the CPUs.
"""

from __future__ import annotations

import importlib.metadata
import random
import threading
import time
from functools import partial
from typing import Self

import httpx
import orjson
from confluent_kafka import Producer

from bench import _common as common
from bench import _view as view
from segments.process.ports import free_port
from segments.settings import Settings

TARGET_P99_MS = 10
_APPLICATIONS = ("router", "shards", "history")
_BEHIND_TIMEOUT_S = 120.0
_QUERY_IDS = 10_000


class Sender:
    """Produces changes at a steady rate from a thread, while its `with` block runs."""

    def __init__(self, settings: Settings, users: int, rate: int) -> None:
        self._topic = settings.topic("segments.commands")
        self._producer = Producer(settings.client_config() | {"linger.ms": 5, "log_level": 0})
        self._ids = common.user_ids(users)
        self._rate = rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self.started_s = 0.0

    def seed(self) -> None:
        """Add one segment to each user, as fast as possible."""
        for number, user_id in enumerate(self._ids):
            self._send(f"seed-{number}", user_id, [view.SEGMENTS[number % 50]], [])
        common.flush(self._producer)

    def __enter__(self) -> Self:
        self.started_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        common.flush(self._producer)

    def _run(self) -> None:
        chooser = random.Random(2)
        while not self._stopping.wait(0.005):
            due = int((time.monotonic() - self.started_s) * self._rate)
            while self.sent < due:
                segment = [chooser.choice(view.SEGMENTS)]
                add, remove = (segment, []) if chooser.random() < 0.7 else ([], segment)
                self._send(f"change-{self.sent}", chooser.choice(self._ids), add, remove)
                self.sent += 1
            self._producer.poll(0)

    def _send(self, command_id: str, user_id: str, add: list[str], remove: list[str]) -> None:
        command = {
            "type": "change_memberships",
            "id": command_id,
            "user_id": user_id,
            "add": add,
            "remove": remove,
        }
        common.produce(self._producer, self._topic, orjson.dumps(command), user_id)


def main() -> None:
    """Measure and print."""
    parser = common.arguments(
        __doc__,
        users=50_000,
        partitions=8,
        rate=2_000,
        connections=16,
        get_rate=1_000,
        seconds=10,
    )
    options = parser.parse_args()
    shape = {name: getattr(options, name) for name in ("users", "connections", "seconds")}
    runs = []
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
        httpx.Client(base_url=f"http://127.0.0.1:{settings.http.port}", timeout=30) as client,
    ):
        http, bare_port = _start(settings, client), free_port()
        Sender(settings, options.users, options.rate).seed()
        _wait_for_users(client, options.users)
        bare = view.start_bare(settings, bare_port, options.users)
        with Sender(settings, options.users, options.rate) as sender:
            for name, rate in (("as fast as possible", 0), ("at a steady rate", options.get_rate)):
                for server, port in ((http, settings.http.port), (bare, bare_port)):
                    run = view.load(settings, "get", server, port, rate=rate, **shape)
                    runs.append((name, "http" if server is http else "bare handler", run))
        rate = sender.sent / (time.monotonic() - sender.started_s)
        behind_s = _catch_up(client, sender.sent)
    for name, which, run in runs:
        print(
            f"GET during ingest, {name}, {which}: {run['rate']:,.0f} /s, p50 {run['p50_ms']:.2f} "
            f"ms, p99 {run['p99_ms']:.2f} ms, longest {run['max_ms']:.0f} ms"
        )
    print(f"target for http: p99 < {TARGET_P99_MS} ms")
    print(f"ingest: {rate:,.0f} commands/s, all applied {behind_s:.2f} s after the last was sent")
    print(
        common.conditions(
            users=f"{options.users:,}",
            connections=options.connections,
            partitions=options.partitions,
            applications=" ".join((*_APPLICATIONS, "http")),
            rounds=f"{options.seconds} s each",
            aiohttp=importlib.metadata.version("aiohttp"),
        )
    )


def _start(settings: Settings, client: httpx.Client) -> common.Process:
    for application in _APPLICATIONS:
        common.start(settings, application)
    http = common.start(settings, "http")
    view.wait_for(f"http://127.0.0.1:{settings.http.port}/readyz")
    for name in view.SEGMENTS:
        client.post("/v1/segments", json={"segment": name}).raise_for_status()
    return http


def _wait_for_users(client: httpx.Client, users: int) -> None:
    ids = common.user_ids(users)

    def known() -> bool:
        for start in range(0, users, _QUERY_IDS):
            body = {"user_ids": ids[start : start + _QUERY_IDS]}
            response = client.post("/v1/memberships/query", json=body).raise_for_status()
            if any(item["error"] for item in orjson.loads(response.content)["items"]):
                return False
        return True

    common.wait_until(known, _BEHIND_TIMEOUT_S, "the users", poll_s=1.0)


def _succeeds(client: httpx.Client, path: str) -> bool:
    return client.get(path).status_code == httpx.codes.OK


def _catch_up(client: httpx.Client, sent: int) -> float:
    """Seconds until the results of the last commands are available."""
    started_s = time.monotonic()
    for number in range(max(0, sent - 200), sent):
        path = f"/v1/commands/change-{number}"
        common.wait_until(
            partial(_succeeds, client, path),
            _BEHIND_TIMEOUT_S,
            path,
            poll_s=0.01,
        )
    return time.monotonic() - started_s


if __name__ == "__main__":
    main()
