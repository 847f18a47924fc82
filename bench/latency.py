"""How long a command takes until it is visible over HTTP, at a steady rate, and a PATCH alone.

    python -m bench.latency

All applications run as in a deployment. Commands are produced at a steady rate; some of them, each
for a user of its own, are watched: a GET every few milliseconds until the answer shows the segment.
Then, with nothing else going on, one PATCH after another, each with its result.
"""

from __future__ import annotations

import threading
import time

import httpx
from confluent_kafka import Producer

from bench import _common as common
from bench import _pipeline as pipeline
from bench import _view as view
from segments.settings import Settings

TARGET_P50_MS, TARGET_P99_MS, TARGET_PATCH_P50_MS = 100, 250, 80
_LOOK_EVERY_S = 0.005
_LATE_S = 30.0
_WARM_UP_SHARE = 0.2
_PATCHED = "PATCHED"


def main() -> None:
    """Measure and print."""
    parser = common.arguments(
        __doc__, rate=1_000, watched_rate=25, seconds=30, users=5_000, partitions=8, patches=200
    )
    options = parser.parse_args()
    with (
        common.surroundings(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
        httpx.Client(base_url=pipeline.base_url(settings), timeout=60) as client,
    ):
        pipeline.start(settings, client)
        watch = Watch(settings, client)
        watch.run(options.rate, options.watched_rate, options.seconds, options.users)
        patches_ms = _patch(client, common.user_ids(options.patches))
    seen_ms = watch.seen_ms[int(len(watch.seen_ms) * _WARM_UP_SHARE) :]
    print(
        f"command produced -> visible: p50 {common.percentile(seen_ms, 0.5):.0f} ms (target "
        f"{TARGET_P50_MS}), p99 {common.percentile(seen_ms, 0.99):.0f} ms (target "
        f"{TARGET_P99_MS}), longest {max(seen_ms):.0f} ms, {len(seen_ms)} watched, "
        f"at {watch.rate:,.0f} commands/s"
    )
    print(
        f"PATCH with its result, one at a time: p50 {common.percentile(patches_ms, 0.5):.0f} ms "
        f"(target {TARGET_PATCH_P50_MS}), p99 {common.percentile(patches_ms, 0.99):.0f} ms"
    )
    print(
        common.conditions(
            rate=f"{options.rate:,}/s for {options.seconds} s",
            users=f"{options.users:,}",
            partitions=options.partitions,
            applications=" ".join(pipeline.APPLICATIONS),
            look="every 5 ms",
        )
    )


class Watch:
    """Produces at a steady rate from a thread, and looks for the watched from this one.

    `seen_ms`: time from produce to the answer that showed it, in the order of producing.
    """

    def __init__(self, settings: Settings, client: httpx.Client) -> None:
        self._settings = settings
        self._client = client
        self._producer = Producer(settings.client_config() | {"linger.ms": 2, "log_level": 0})
        self._watched: list[tuple[str, float]] = []
        self._failed: list[BaseException] = []
        self.seen_ms: list[float] = []
        self.rate = 0.0

    def run(self, rate: int, watched_rate: int, seconds: int, users: int) -> None:
        """Send and watch; BenchError when one is not seen in time."""
        sender = threading.Thread(target=self._send, args=(rate, watched_rate, seconds, users))
        sender.start()
        waiting: list[tuple[str, float]] = []
        looked = 0
        while sender.is_alive() or waiting or looked < len(self._watched):
            began_s = time.monotonic()
            new = self._watched[looked:]
            looked += len(new)
            waiting = [each for each in waiting + new if not self._seen(*each)]
            time.sleep(max(0.0, _LOOK_EVERY_S - (time.monotonic() - began_s)))
        sender.join()

    def _seen(self, user_id: str, sent_s: float) -> bool:
        answer = self._client.get(f"/v1/users/{user_id}/segments")
        late_s = time.monotonic() - sent_s
        if answer.status_code == httpx.codes.OK and answer.json()["segments"]:
            self.seen_ms.append(late_s * 1000)
            return True
        if late_s > _LATE_S:
            raise common.BenchError(f"{user_id} not seen after {late_s:.0f} s: {answer.text}")
        return False

    def _send(self, rate: int, watched_rate: int, seconds: int, users: int) -> None:
        ids = common.user_ids(users + watched_rate * seconds)
        fresh = iter(ids[users:])
        every = rate // watched_rate
        commands = pipeline.changes(ids[:users], 0, rate * seconds, seed=1)
        started_s = time.monotonic()
        for number, command in enumerate(commands):
            while time.monotonic() < started_s + number / rate:
                self._producer.poll(0.001)
            if number % every == 0:
                watched = pipeline.change(next(fresh), f"watched-{number}", view.SEGMENTS[:1], [])
                pipeline.send(self._settings, self._producer, watched)
                self._watched.append((watched[0], time.monotonic()))
            else:
                pipeline.send(self._settings, self._producer, command)
        self.rate = rate * seconds / (time.monotonic() - started_s)
        common.flush(self._producer)


def _patch(client: httpx.Client, users: list[str]) -> list[float]:
    """Milliseconds of each PATCH; all of them change something."""
    client.post("/v1/segments", json={"segment": _PATCHED}).raise_for_status()
    times_ms = []
    for user_id in users:
        started_s = time.monotonic()
        answer = client.patch(f"/v1/users/{user_id}/segments", json={"add": [_PATCHED]})
        times_ms.append((time.monotonic() - started_s) * 1000)
        if answer.status_code != httpx.codes.OK or answer.json()["status"] != "applied":
            raise common.BenchError(f"{answer.status_code}: {answer.text}")
    return times_ms


if __name__ == "__main__":
    main()
