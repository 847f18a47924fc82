"""Load generator: sends requests over keep-alive connections and prints its figures as JSON.

    python -m bench._load get|query --port N --connections N --seconds S --users N
        [--batch N] [--rate N]

A client library would be slower than the server it measures, so this one writes prepared requests
to plain sockets and only looks for the end of each response. Each connection sends its next request
once it has received the complete response. A status other than 200 ends the run. `warm` is printed
when the measurement begins; SIGTERM ends a run at a steady rate early.
"""

from __future__ import annotations

import argparse
import random
import selectors
import signal
import socket
import threading
import time

import orjson

from bench import _common as common

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"Content-Length: "
_PREPARED = 20_000
_PREPARED_USERS = 1_000_000
_WARM_UP_S = 1.0
_stopping = threading.Event()


class Connection:
    """One socket with at most one request in flight."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at_s = 0.0
        self._received = b""

    def send(self, request: bytes) -> None:
        """Send a request; blocks if it exceeds the socket buffer."""
        self.sent_at_s = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what is available; returns whether the response is complete."""
        chunk = self.socket.recv(1 << 20)
        if not chunk:
            raise common.BenchError("the server closed a connection")
        received = self._received + chunk if self._received else chunk
        head = received.find(_HEAD_END)
        if head >= 0:
            if not received.startswith(b"HTTP/1.1 200 "):
                raise common.BenchError(received[:500].decode(errors="replace"))
            at = received.index(_LENGTH) + len(_LENGTH)
            length = int(received[at : received.index(b"\r", at)])
            if len(received) == head + len(_HEAD_END) + length:
                self._received = b""
                return True
        self._received = received
        return False


def gets(users: int) -> list[bytes]:
    """GET requests for the segments of random users."""
    ids = common.user_ids(users)
    return [
        f"GET /v1/users/{user_id}/segments HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        for user_id in random.Random(1).choices(ids, k=_PREPARED)
    ]


def queries(users: int, batch: int) -> list[bytes]:
    """POST requests of the memberships query for random users, `batch` ids each."""
    chooser, ids = random.Random(1), common.user_ids(users)
    prepared = []
    for _ in range(max(1, min(_PREPARED_USERS, 50 * batch) // batch)):
        body = orjson.dumps({"user_ids": chooser.choices(ids, k=batch)})
        head = (
            "POST /v1/memberships/query HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        prepared.append(head.encode() + body)
    return prepared


def run(
    requests: list[bytes], port: int, connections: int, seconds: float
) -> tuple[list[float], float]:
    """Closed loop: (latency of each response in s, duration in s)."""
    selector = selectors.DefaultSelector()
    number = 0
    for connection in _connect(selector, port, connections):
        connection.send(requests[number % len(requests)])
        number += 1
    latencies: list[float] = []
    started_s = time.perf_counter()
    now_s = started_s
    while now_s < started_s + seconds:
        for key, _ in selector.select(30):
            connection = key.data
            if connection.receive():
                now_s = time.perf_counter()
                latencies.append(now_s - connection.sent_at_s)
                connection.send(requests[number % len(requests)])
                number += 1
    _close(selector)
    return latencies, now_s - started_s


def run_paced(
    requests: list[bytes], port: int, connections: int, seconds: float, rate: float
) -> tuple[list[float], float]:
    """Open loop at a steady rate: as `run`, but latency counts from when a request was due.

    A request that finds no idle connection waits for one; the wait is part of its latency.
    """
    selector = selectors.DefaultSelector()
    idle = _connect(selector, port, connections)
    latencies: list[float] = []
    started_s = now_s = time.perf_counter()
    number, answered, count = 0, 0, int(rate * seconds)
    while answered < count and not _stopping.is_set():
        while idle and number < count and started_s + number / rate <= now_s:
            # Round robin: the sidecar would close a connection that stays idle.
            connection = idle.pop(0)
            connection.send(requests[number % len(requests)])
            connection.sent_at_s = started_s + number / rate
            number += 1
        due_s = started_s + number / rate - now_s if idle and number < count else 30.0
        for key, _ in selector.select(max(0.0, due_s)):
            if key.data.receive():
                now_s = time.perf_counter()
                latencies.append(now_s - key.data.sent_at_s)
                answered += 1
                idle.append(key.data)
        now_s = time.perf_counter()
    _close(selector)
    return latencies, now_s - started_s


def _connect(selector: selectors.BaseSelector, port: int, connections: int) -> list[Connection]:
    opened = [Connection(port) for _ in range(connections)]
    for connection in opened:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    return opened


def _close(selector: selectors.BaseSelector) -> None:
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    selector.close()


def main() -> None:
    """Warm up, measure, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["get", "query"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests/s; 0 = as fast as possible"
    )
    options = parser.parse_args()
    if options.kind == "get":
        requests = gets(options.users)
    else:
        requests = queries(options.users, options.batch)
    before, _ = run(requests, options.port, options.connections, _WARM_UP_S)
    signal.signal(signal.SIGTERM, lambda *_: _stopping.set())
    print("warm", flush=True)
    shape = (requests, options.port, options.connections, options.seconds)
    latencies, elapsed_s = run_paced(*shape, options.rate) if options.rate else run(*shape)
    figures = {
        "requests": len(latencies),
        "answered": len(before) + len(latencies),
        "elapsed_s": elapsed_s,
        "p50_ms": common.percentile(latencies, 0.5) * 1000,
        "p99_ms": common.percentile(latencies, 0.99) * 1000,
        "max_ms": max(latencies) * 1000,
    }
    print(orjson.dumps(figures).decode())


if __name__ == "__main__":
    main()
