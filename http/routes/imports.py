"""POST /dev/users/import: many users by hand, streamed (U4); only with `dev.enabled`.

Every line is taken or refused by itself. Taking one again changes nothing, so an import that broke
off is simply sent again.
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
from segments.http.auth.roles import Role, actor
from segments.http.context import SERVICES
from segments.http.problems import Problem, invalid
from segments.http.routes import requests
from segments.http.routes.developer import State
from segments.http.routing.headers import CONTENT_ENCODING
from segments.http.routing.operation import CSV, NDJSON, NDJSON_NAMES, Answer, RawBody
from segments.http.routing.routes import Routes
from segments.http.write.batch import BulkDelivery
from segments.http.write.producer import REFRESHES
from segments.telemetry import logs

LINE_MAX_BYTES = 4_096
ERRORS_NAMED = 100
IDLE_TIMEOUT_S = 30.0
SLOWEST_BYTES_PER_S = 1_000
"""Who sends less, after the first half minute, only takes up a place."""
_INFLATE_BYTES = 262_144
_LINES_AT_ONCE = 500
_MARK = b"\xef\xbb\xbf"
_GZIP = zlib.MAX_WBITS | 16

log = logs.get(__name__)

routes = Routes("developer")


class ImportedUser(State):
    """A line of an import."""

    model_config = ConfigDict(extra="forbid")

    user_id: UserId


class Counts(NamedTuple):
    """What became of the lines; `errors` names the first refused ones."""

    accepted: int
    refused: int
    errors: list[dict[str, Any]]


class Broken(Exception):  # noqa: N818 - the body is, not we
    """The body cannot be read to its end; the message says why."""


@routes.post(
    "/dev/users/import",
    role=Role.ADMIN,
    body=RawBody(
        {
            NDJSON: 'A user a line: `{"user_id", "state"}`.',
            CSV: "`user_id;state` or with a comma, with or without that header line.",
        },
        aliases=NDJSON_NAMES,
        examples={CSV: "user_id;state\ncd613e30-d8f1-4adf-91b7-584a2265b1f5;active\n"},
    ),
    headers=(CONTENT_ENCODING,),
    answers={200: Answer("What became of the lines.", Imported)},
    problems=((503, "kafka_unavailable"), (503, "busy")),
)
async def import_users(request: web.Request) -> web.Response:
    """Take users, one a line, as NDJSON or CSV, with or without gzip.

    Every line is taken or refused by itself. Sending it again changes nothing, so an import that
    broke off is simply sent again.
    """
    encoding = request.headers.get(CONTENT_ENCODING, "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise Problem(415, "content_encoding", "the body is gzip or not encoded")
    services = request.app[SERVICES]
    delivery = services.writer.bulk(REFRESHES)
    taking = Taking(delivery, csv=request.content_type == CSV)
    with services.stream_slot():
        try:
            async for chunk in _plain(request, gzip=encoding == "gzip"):
                await taking.feed(chunk)
            await taking.end()
        except Broken as error:
            counts = await taking.counts()
            raise Problem(
                400,
                "bad_body",
                f"{error}; the lines before that were taken, send all of it again",
                extra=counts._asdict(),
            ) from None
        finally:
            told = taking.so_far()
            log.info(
                "users set by hand",
                accepted=told.accepted,
                refused=told.refused,
                actor=actor(request),
            )
    counts = await taking.counts()
    return requests.json_response(counts._asdict())


async def _received(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it comes. Broken when it breaks off, or comes too slowly."""
    loop = asyncio.get_running_loop()
    content = request.content.iter_any().__aiter__()
    waited_s, received_bytes = 0.0, 0
    while True:
        left_s = IDLE_TIMEOUT_S + received_bytes / SLOWEST_BYTES_PER_S - waited_s
        asked_at_s = loop.time()
        try:
            async with asyncio.timeout(min(IDLE_TIMEOUT_S, left_s)):
                chunk = await anext(content, None)
        except TimeoutError:
            raise Broken(f"it stood still, or came slower than {SLOWEST_BYTES_PER_S} B/s") from None
        except web.RequestPayloadError:
            raise Broken("the body is not what its headers say it is") from None
        if chunk is None:
            return
        waited_s += loop.time() - asked_at_s
        received_bytes += len(chunk)
        yield chunk


async def _plain(request: web.Request, *, gzip: bool) -> AsyncIterator[bytes]:
    """The body, unpacked, in pieces of bounded size."""
    inflate = zlib.decompressobj(_GZIP)
    async for chunk in _received(request):
        if not gzip:
            yield chunk
            continue
        packed = chunk
        try:
            while packed:
                if inflate.eof:  # a gzip body may have several members
                    inflate = zlib.decompressobj(_GZIP)
                yield inflate.decompress(packed, _INFLATE_BYTES)
                packed = inflate.unconsumed_tail or inflate.unused_data
        except zlib.error as error:
            raise Broken(f"the body is not gzip: {error}") from None
    if gzip and not inflate.eof:
        raise Broken("the gzip body ends in the middle")


class Taking:
    """Splits pieces into lines and takes what is right; memory is bounded by one line."""

    def __init__(self, delivery: BulkDelivery, *, csv: bool) -> None:
        self._delivery = delivery
        self._csv = csv
        self._rest = b""
        self._skipping = False
        self._number = 0
        self._accepted = 0
        self._refused = 0
        self._errors: list[dict[str, Any]] = []

    async def feed(self, piece: bytes) -> None:
        """Take the lines that a piece completes."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for number, line in enumerate(lines, 1):
            self._line(line)
            if number % _LINES_AT_ONCE == 0:
                await self._delivery.room()
        if len(self._rest) > LINE_MAX_BYTES:
            # Only its end is still of interest.
            self._rest = b""
            self._skipping = True
        await self._delivery.room()

    async def end(self) -> None:
        """Take the last line, which need not be ended."""
        if self._rest or self._skipping:
            self._line(self._rest)

    async def counts(self) -> Counts:
        """What became of everything, once Kafka has it. Problem 503 when it took not all."""
        await self._delivery.done()
        return self.so_far()

    def so_far(self) -> Counts:
        """What became of the lines that have come, whether or not Kafka has them."""
        return Counts(self._accepted, self._refused, self._errors)

    def _line(self, raw: bytes) -> None:
        self._number += 1
        too_long, self._skipping = self._skipping or len(raw) > LINE_MAX_BYTES, False
        line = (raw.removeprefix(_MARK) if self._number == 1 else raw).strip()
        if too_long:
            self._refuse("", f"a line has at most {LINE_MAX_BYTES} bytes")
        elif line and not (self._csv and self._number == 1 and _is_header(line)):
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            user = ImportedUser.model_validate(_cells(line) if self._csv else orjson.loads(line))
        except orjson.JSONDecodeError as error:
            self._refuse("", f"not JSON: {error}")
        except UnicodeDecodeError:
            self._refuse("", "not UTF-8")
        except ValidationError as error:
            for named in (invalid(error).errors or [])[:1]:
                self._refuse(named["field"], named["detail"])
        else:
            self._accepted += 1
            value = {"user_id": user.user_id, "reason": "manual", "state": user.state}
            self._delivery.send(user.user_id, value)

    def _refuse(self, field: str, detail: str) -> None:
        self._refused += 1
        if len(self._errors) < ERRORS_NAMED:
            self._errors.append({"line": self._number, "field": field, "detail": detail})


def _cells(line: bytes) -> dict[str, str]:
    """`user_id;state`, or with a comma."""
    text = line.decode()
    user_id, _, state = text.partition(";" if ";" in text else ",")
    return {"user_id": user_id.strip(), "state": state.strip()}


def _is_header(line: bytes) -> bool:
    return line.replace(b",", b";").lower().replace(b" ", b"") == b"user_id;state"
