"""POST /dev/users/import: import users manually, streamed; only with `dev.enabled`.

Each line is accepted or rejected on its own. Importing a line again changes nothing, so an import
that was interrupted is simply repeated.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson
from aiohttp import web
from pydantic import ConfigDict, ValidationError

from segments.contracts.names import UserId
from segments.contracts.responses.service import Imported
from segments.contracts.topics import REFRESHES_TOPIC
from segments.http.auth.roles import Role, actor
from segments.http.context import SERVICES
from segments.http.problems import Problem, invalid
from segments.http.routes import requests
from segments.http.routes.developer import ReplicaState
from segments.http.routing.headers import CONTENT_ENCODING
from segments.http.routing.operation import (
    CSV_TYPE,
    NDJSON_TYPE,
    NDJSON_TYPES,
    RawBody,
    Response,
)
from segments.http.routing.routes import Routes
from segments.http.write.batch import BatchProducer
from segments.telemetry import logs

IMPORT_LINE_MAX_BYTES = 4_096
ERRORS_MAX = 100
IDLE_TIMEOUT_S = 30.0
MIN_BYTES_PER_S = 1_000
"""Slower imports are aborted after the first 30 s: they occupy a stream slot."""
_INFLATE_BYTES = 262_144
_LINES_AT_ONCE = 500
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = zlib.MAX_WBITS | 16

log = logs.get(__name__)

routes = Routes("developer")


class ImportedUser(ReplicaState):
    """A line of an import."""

    model_config = ConfigDict(extra="forbid")

    user_id: UserId


class Counts(NamedTuple):
    """How many lines were accepted and rejected; `errors` lists the first rejected ones."""

    accepted: int
    refused: int
    errors: list[dict[str, Any]]


class IncompleteBodyError(Exception):
    """The body cannot be read to its end; the message says why."""


@routes.post(
    "/dev/users/import",
    role=Role.ADMIN,
    body=RawBody(
        {
            NDJSON_TYPE: 'One user per line: `{"user_id", "state"}`.',
            CSV_TYPE: "`user_id;state` or `user_id,state`, with or without that header line.",
        },
        aliases=NDJSON_TYPES,
        examples={CSV_TYPE: "user_id;state\ncd613e30-d8f1-4adf-91b7-584a2265b1f5;active\n"},
    ),
    headers=(CONTENT_ENCODING,),
    responses={200: Response("How many lines were accepted and rejected.", Imported)},
    problems=((503, "kafka_unavailable"), (503, "busy")),
)
async def import_users(request: web.Request) -> web.Response:
    """Import users, one per line, as NDJSON or CSV, optionally compressed with gzip.

    Each line is accepted or rejected on its own. Importing a line again changes nothing, so an
    import that was interrupted is simply repeated.
    """
    encoding = request.headers.get(CONTENT_ENCODING, "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise Problem(415, "content_encoding", "the body must be gzip or not encoded")
    services = request.app[SERVICES]
    delivery = services.producer.batch(REFRESHES_TOPIC)
    importer = Importer(delivery, csv=request.content_type == CSV_TYPE)
    with services.stream_slot():
        try:
            async for chunk in _decompressed(request, gzip=encoding == "gzip"):
                await importer.feed(chunk)
            await importer.end()
        except IncompleteBodyError as error:
            counts = await importer.counts()
            raise Problem(
                400,
                "bad_body",
                f"{error}; the lines before that were accepted, send the whole body again",
                extra=counts._asdict(),
            ) from None
        finally:
            so_far = importer.so_far()
            log.info(
                "users_imported",
                accepted=so_far.accepted,
                refused=so_far.refused,
                actor=actor(request),
            )
    counts = await importer.counts()
    return requests.json_response(counts._asdict())


async def _received(request: web.Request) -> AsyncIterator[bytes]:
    """The body as received. IncompleteBodyError if it ends early or arrives too slowly."""
    loop = asyncio.get_running_loop()
    content = request.content.iter_any().__aiter__()
    waited_s, received_bytes = 0.0, 0
    while True:
        left_s = IDLE_TIMEOUT_S + received_bytes / MIN_BYTES_PER_S - waited_s
        read_at_s = loop.time()
        try:
            async with asyncio.timeout(min(IDLE_TIMEOUT_S, left_s)):
                chunk = await anext(content, None)
        except TimeoutError:
            detail = f"the body stalled, or arrived slower than {MIN_BYTES_PER_S} B/s"
            raise IncompleteBodyError(detail) from None
        except web.RequestPayloadError:
            raise IncompleteBodyError("the body does not match its headers") from None
        if chunk is None:
            return
        waited_s += loop.time() - read_at_s
        received_bytes += len(chunk)
        yield chunk


async def _decompressed(request: web.Request, *, gzip: bool) -> AsyncIterator[bytes]:
    """The body, decompressed, in chunks of bounded size."""
    inflate = zlib.decompressobj(_GZIP)
    async for chunk in _received(request):
        if not gzip:
            yield chunk
            continue
        compressed = chunk
        try:
            while compressed:
                if inflate.eof:  # a gzip body may have several members
                    inflate = zlib.decompressobj(_GZIP)
                yield inflate.decompress(compressed, _INFLATE_BYTES)
                compressed = inflate.unconsumed_tail or inflate.unused_data
        except zlib.error as error:
            raise IncompleteBodyError(f"the body is not gzip: {error}") from None
    if gzip and not inflate.eof:
        raise IncompleteBodyError("the gzip body is truncated")


class Importer:
    """Splits chunks into lines and produces the valid ones; buffers one line at most."""

    def __init__(self, delivery: BatchProducer, *, csv: bool) -> None:
        self._delivery = delivery
        self._csv = csv
        self._rest = b""
        self._skipping = False
        self._number = 0
        self._accepted = 0
        self._refused = 0
        self._errors: list[dict[str, Any]] = []

    async def feed(self, chunk: bytes) -> None:
        """Process the lines that a chunk completes."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for number, line in enumerate(lines, 1):
            self._line(line)
            if number % _LINES_AT_ONCE == 0:
                await self._delivery.wait_for_room()
        if len(self._rest) > IMPORT_LINE_MAX_BYTES:
            # Too long: skip to its end.
            self._rest = b""
            self._skipping = True
        await self._delivery.wait_for_room()

    async def end(self) -> None:
        """Process the last line, which may lack a newline."""
        if self._rest or self._skipping:
            self._line(self._rest)

    async def counts(self) -> Counts:
        """The counts, once Kafka has every accepted line. Problem 503 otherwise."""
        await self._delivery.flush()
        return self.so_far()

    def so_far(self) -> Counts:
        """The counts so far, whether or not Kafka has acknowledged the lines."""
        return Counts(self._accepted, self._refused, self._errors)

    def _line(self, raw: bytes) -> None:
        self._number += 1
        too_long, self._skipping = self._skipping or len(raw) > IMPORT_LINE_MAX_BYTES, False
        line = (raw.removeprefix(_BYTE_ORDER_MARK) if self._number == 1 else raw).strip()
        if too_long:
            self._reject("", f"a line has at most {IMPORT_LINE_MAX_BYTES} bytes")
        elif line and not (self._csv and self._number == 1 and _is_header(line)):
            self._accept(line)

    def _accept(self, line: bytes) -> None:
        try:
            user = ImportedUser.model_validate(_cells(line) if self._csv else orjson.loads(line))
        except orjson.JSONDecodeError as error:
            self._reject("", f"not JSON: {error}")
        except UnicodeDecodeError:
            self._reject("", "not UTF-8")
        except ValidationError as error:
            for entry in (invalid(error).errors or [])[:1]:
                self._reject(entry["field"], entry["detail"])
        else:
            self._accepted += 1
            value = {"user_id": user.user_id, "reason": "manual", "state": user.state}
            self._delivery.send(user.user_id, value)

    def _reject(self, field: str, detail: str) -> None:
        self._refused += 1
        if len(self._errors) < ERRORS_MAX:
            self._errors.append({"line": self._number, "field": field, "detail": detail})


def _cells(line: bytes) -> dict[str, str]:
    """Parse `user_id;state` or `user_id,state`."""
    text = line.decode()
    user_id, _, state = text.partition(";" if ";" in text else ",")
    return {"user_id": user_id.strip(), "state": state.strip()}


def _is_header(line: bytes) -> bool:
    return line.replace(b",", b";").lower().replace(b" ", b"") == b"user_id;state"
