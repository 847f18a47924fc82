"""The client under faults of the service and the network."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from segments import client as api
from segments.client import AsyncSegmentsClient, Retries, SegmentsClient
from tests.support.service_double import USER, Double, problem, reset, responds

FAST = Retries(attempts=4, backoff_s=0.001)


class Both:
    """Runs the same call with the synchronous or the asynchronous client."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.options: dict[str, Any] = {"retries": FAST, "timeout_s": 20.0} | options

    async def synchronous(self, name: str, *args: Any, **kwargs: Any) -> Any:
        def call() -> Any:
            with SegmentsClient(self.url, **self.options) as client:
                outcome = getattr(client, name)(*args, **kwargs)
                return list(outcome) if isinstance(outcome, api.Items) else outcome

        return await asyncio.to_thread(call)

    async def asynchronous(self, name: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncSegmentsClient(self.url, **self.options) as client:
            outcome = getattr(client, name)(*args, **kwargs)
            if isinstance(outcome, api.AsyncItems):
                return [item async for item in outcome]
            return await outcome


@pytest.fixture(params=["synchronous", "asynchronous"])
def caller(request: pytest.FixtureRequest) -> Any:
    """`caller(double, **options)(name, …)` runs a call with either client."""
    return lambda double, **options: getattr(Both(double.url, **options), request.param)


async def _reset_connection(request: web.Request) -> None:
    await reset(request)


def _apply_then_reset(double: Double) -> Any:
    async def fault(request: web.Request) -> None:
        double.decide(request.headers["Idempotency-Key"])
        await reset(request)

    return fault


async def test_a_write_whose_answer_is_lost_is_repeated_with_its_key(
    double: Double, caller: Any
) -> None:
    double.faults = [_apply_then_reset(double), _apply_then_reset(double)]
    result = await caller(double)("change", USER, add=["beta"])
    first, second, third = double.received_keys()
    assert first == second == third == result.command_id
    assert double.applied == {first: 1}


async def test_every_write_has_its_own_key(double: Double, caller: Any) -> None:
    change = caller(double)
    for _ in range(3):
        await change("change", USER, add=["beta"])
    assert len(set(double.received_keys())) == 3


async def test_key_of_the_caller_is_used(double: Double, caller: Any) -> None:
    double.faults = [responds(503, "kafka_unavailable")]
    await caller(double)("change", USER, add=["beta"], idempotency_key="Bestellung-ü")
    # The service decodes headers as UTF-8.
    keys = [key.encode("utf-8", "surrogateescape").decode() for key in double.received_keys()]
    assert keys == ["Bestellung-ü"] * 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_temporary_errors_are_retried(double: Double, caller: Any, status: int) -> None:
    double.faults = [responds(status, "busy"), responds(status, "busy")]
    found = await caller(double)("user_segments", USER)
    assert found.names == ["beta"]
    assert len(double.requests) == 3


@pytest.mark.parametrize(
    ("status", "code", "error_class"),
    [
        (400, "invalid", api.InvalidError),
        (401, "unauthorized", api.UnauthorizedError),
        (403, "forbidden", api.ForbiddenError),
        (404, "user_unknown", api.NotFoundError),
        (409, "assigning", api.ConflictError),
        (410, "segment_replaced", api.NotFoundError),
        (415, "content_type", api.InvalidError),
        (421, "partition_elsewhere", api.ProblemError),
        (422, "invalid", api.InvalidError),
        (500, "internal", api.UnavailableError),
    ],
)
async def test_permanent_errors_are_not_retried(
    double: Double, caller: Any, status: int, code: str, error_class: type[api.ProblemError]
) -> None:
    double.faults = [responds(status, code)]
    with pytest.raises(api.ProblemError) as raised:
        await caller(double)("user_segments", USER)
    assert type(raised.value) is error_class
    assert (raised.value.status, raised.value.code) == (status, code)
    assert raised.value.detail == "because"
    assert len(double.requests) == 1


async def test_attempts_are_limited(double: Double, caller: Any) -> None:
    double.faults = [responds(503, "stale")] * 10
    with pytest.raises(api.StaleError):
        await caller(double)("user_segments", USER)
    assert len(double.requests) == FAST.attempts


async def test_retry_after_is_respected(double: Double, caller: Any) -> None:
    arrived: list[float] = []

    async def respond_429_once(_request: web.Request) -> web.Response | None:
        arrived.append(asyncio.get_running_loop().time())
        return problem(429, "rate_limited", {"Retry-After": "1"}) if len(arrived) == 1 else None

    double.faults = [respond_429_once, respond_429_once]
    await caller(double)("user_segments", USER)
    assert arrived[1] - arrived[0] >= 1.0


async def test_retry_after_beyond_the_deadline_fails_immediately(
    double: Double, caller: Any
) -> None:
    double.faults = [responds(429, "rate_limited", {"Retry-After": "3600"})]
    with pytest.raises(api.RateLimitedError) as raised:
        await caller(double)("user_segments", USER)
    assert raised.value.retry_after_s == 3600
    assert len(double.requests) == 1


async def test_accepted_write_is_polled(double: Double, caller: Any) -> None:
    double.undecided_polls = 2
    result = await caller(double)("change", USER, add=["beta"])
    assert result.status == "applied"
    assert result.position == "0:1"
    methods = [method for method, *_ in double.requests]
    assert methods == ["PATCH", "GET", "GET", "GET"]
    assert all("wait=" in headers["Prefer"] for _, _, headers, _ in double.requests)


async def test_later_rejection_raises_like_an_immediate_one(double: Double, caller: Any) -> None:
    double.undecided_polls = 1
    error = {"code": "segment_unknown", "detail": "no such segment", "segments": ["beta"]}
    double.decide("k", status="rejected", error=error)
    with pytest.raises(api.RejectedError) as raised:
        await caller(double)("change", USER, add=["beta"], idempotency_key="k")
    assert (raised.value.status, raised.value.code) == (422, "segment_unknown")
    assert raised.value.segments == ("beta",)
    assert raised.value.command_id == "k"
    assert "beta" in str(raised.value)


async def test_pending_write_has_its_command_id(double: Double, caller: Any) -> None:
    double.undecided_polls = 1_000_000
    with pytest.raises(api.PendingError) as raised:
        await caller(double)("change", USER, add=["beta"], timeout_s=2)
    [key] = double.received_keys()
    assert raised.value.command_id == key


async def test_unknown_command_is_polled_again(double: Double, caller: Any) -> None:
    double.undecided_polls = 1
    double.faults = [None, responds(404, "command_unknown")]
    assert (await caller(double)("change", USER, add=["beta"])).status == "applied"


async def test_write_error_has_the_command_id(double: Double, caller: Any) -> None:
    double.faults = [_reset_connection] * 10
    with pytest.raises(api.UnreachableError) as raised:
        await caller(double)("change", USER, add=["beta"])
    assert {raised.value.command_id} == set(double.received_keys())


async def test_slow_response_times_out(double: Double, caller: Any) -> None:
    async def never(_request: web.Request) -> None:
        await asyncio.sleep(3600)

    double.faults = [never] * 10
    # The timeout of the client is longer than that of the test, so it must be overridden.
    with pytest.raises(api.UnreachableError):
        await caller(double, timeout_s=3_600.0)("user_segments", USER, timeout_s=0.3)


async def test_dripping_response_times_out(double: Double, caller: Any) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    double.faults = [drip] * 10
    with pytest.raises(api.UnreachableError, match="in time"):
        await caller(double)("user_segments", USER, timeout_s=1)


async def test_unreachable_error_has_the_url(caller: Any, double: Double) -> None:
    double.url = "http://127.0.0.1:1"
    with pytest.raises(api.UnreachableError, match=r"http://127\.0\.0\.1:1/v1/users"):
        await caller(double)("user_segments", USER)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"user_id": 3}', b""])
async def test_response_of_another_service_raises_answer_error(
    double: Double, caller: Any, body: bytes
) -> None:
    async def other(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    double.faults = [other]
    with pytest.raises(api.AnswerError):
        await caller(double)("user_segments", USER)


async def test_error_text_of_a_proxy_is_kept(double: Double, caller: Any) -> None:
    async def proxy(_request: web.Request) -> web.Response:
        return web.Response(status=413, body=b"<h1>Too\n large</h1>")

    double.faults = [proxy]
    with pytest.raises(api.InvalidError, match=r"Too large.*413 http_413"):
        await caller(double)("user_segments", USER)


async def test_redirects_are_not_followed(double: Double, caller: Any) -> None:
    async def elsewhere(_request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})

    double.faults = [elsewhere]
    with pytest.raises(api.AnswerError, match="307"):
        await caller(double, token="secret")("user_segments", USER)


MEMBER = b'{"user_id":"%s","since":"2026-11-24T22:17:45.625Z","expires_at":null,"origin":"auto"}\n'


async def test_member_list_with_its_count_is_complete(double: Double, caller: Any) -> None:
    double.members_body = MEMBER % USER.encode() * 3 + b'{"count":3}\n'
    members = await caller(double)("members", "beta")
    assert [member.user_id for member in members] == [USER] * 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        MEMBER % b"x" * 3,
        MEMBER % b"x" * 3 + b'{"count":4}\n',
        MEMBER % b"x" * 3 + b'{"count":3}',
        MEMBER % b"x" * 2 + b'{"user_id"',
    ],
)
async def test_a_short_member_list_is_an_error(double: Double, caller: Any, body: bytes) -> None:
    double.members_body = body
    with pytest.raises(api.IncompleteError):
        await caller(double)("members", "beta")


async def test_interrupted_member_list_raises(double: Double, caller: Any) -> None:
    double.members_body = MEMBER % USER.encode() * 3
    double.breaks_streams = True
    with pytest.raises(api.IncompleteError, match="interrupted after 3 members"):
        await caller(double)("members", "beta")


async def test_members_before_the_interruption_are_yielded(double: Double) -> None:
    double.members_body = MEMBER % USER.encode() * 3
    double.breaks_streams = True
    async with AsyncSegmentsClient(double.url, retries=FAST) as client:
        members = client.members("beta")
        received = [await anext(members) for _ in range(3)]
        with pytest.raises(api.IncompleteError):
            await anext(members)
    assert [member.user_id for member in received] == [USER] * 3


async def test_complete_report_is_saved(double: Double, caller: Any, tmp_path: Path) -> None:
    double.rows, double.row_count = b"u;a;add;t\n" * 3, 3
    updates: list[tuple[int, int]] = []
    target = tmp_path / "report.csv"
    rows = await caller(double)(
        "save_report", target, "2026-11", progress=lambda *counts: updates.append(counts)
    )
    assert rows == 3
    assert target.read_bytes() == double.rows
    assert updates[-1] == (3, 3)


def _names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@pytest.mark.parametrize("breaks", [True, False])
async def test_incomplete_report_leaves_no_file(
    double: Double, caller: Any, tmp_path: Path, breaks: bool
) -> None:
    double.rows, double.row_count = b"u;a;add;t\n" * 3, 4
    double.breaks_streams = breaks
    with pytest.raises(api.IncompleteError, match="3 of 4 rows"):
        await caller(double)("save_report", tmp_path / "report.csv", "2026-11")
    assert _names_in(tmp_path) == []


async def test_token_is_sent_only_to_the_service(
    double: Double, caller: Any, tmp_path: Path
) -> None:
    double.rows, double.row_count = b"", 0
    # The same port with another host name is another origin.
    double.link = double.url.replace("127.0.0.1", "localhost") + "/v1/reports/2026-11.csv?s=1"
    tokens = iter(["first", "second", "third"])
    await caller(double, token=lambda: next(tokens))("save_report", tmp_path / "r", "2026-11")
    sent = [headers.get("Authorization") for _, _, headers, _ in double.requests]
    assert sent == ["Bearer first", None]


async def test_invalid_token_is_rejected_without_printing_it(double: Double, caller: Any) -> None:
    with pytest.raises(api.InvalidError) as raised:
        await caller(double, token="sec\nret")("user_segments", USER)
    assert "ret" not in str(raised.value).replace("characters", "")
    assert double.requests == []


async def test_a_session_reads_its_own_writes(double: Double) -> None:
    async with AsyncSegmentsClient(double.url, retries=FAST) as client:
        session = client.session()
        await client.change(USER, add=["beta"])
        await session.user_segments(USER)
        await session.change(USER, add=["beta"])
        await session.user_segments(USER)
        await session.user_segments(USER, min_position="0:1,3:9")
        await client.user_segments(USER)
        assert session.positions == "0:2"
    min_positions = [
        headers.get("Segments-Min-Position")
        for method, _, headers, _ in double.requests
        if method == "GET"
    ]
    assert min_positions == [None, "0:2", "0:2,3:9", None]
