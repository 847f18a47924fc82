"""What requests say, as far as it can be read without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import hypothesis.strategies as st
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given

from segments.http import requests
from segments.http.problems import Problem
from segments.http.waiting import Position

int64 = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(codec="utf-8"))


def asked(query: str) -> Any:
    return make_mocked_request("GET", f"/v1/things?{query}")


@given(st.lists(st.one_of(int64, text), min_size=1, max_size=4))
def test_a_cursor_comes_back_as_it_was(place: list[Any]) -> None:
    cursor = requests.encode_cursor(place)
    assert cursor.isascii()
    assert unquote(cursor) == cursor
    types = [type(part) for part in place]
    assert requests.cursor(asked(f"cursor={cursor}"), *types) == place
    with pytest.raises(Problem):
        requests.cursor(asked(f"cursor={cursor}"), *types, int)


@pytest.mark.parametrize(
    "place", [[2**63], [1.5], [True], [None], ["1"], [], [1, 2], {"a": 1}, 7, "x"]
)
def test_a_cursor_that_holds_something_else(place: Any) -> None:
    cursor = requests.encode_cursor(place)
    with pytest.raises(Problem) as caught:
        requests.cursor(asked(f"cursor={cursor}"), int)
    assert caught.value.status == 400


@given(text)
def test_any_text_as_a_cursor(text: str) -> None:
    """A place, or Problem 400; never anything else."""
    request = asked("")
    request._rel_url = request.rel_url.with_query(cursor=text)
    status, place = 200, None
    try:
        place = requests.cursor(request, int, str)
    except Problem as problem:
        status = problem.status
    assert (status, place is None) in ((200, False), (400, True))


async def test_a_body_that_breaks_off() -> None:
    class Broken:
        async def iter_any(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise web.RequestPayloadError

    request = make_mocked_request("POST", "/v1/things", payload=Broken())
    with pytest.raises(Problem, match="bad_body"):
        await requests.read(request, 100)


def test_no_cursor() -> None:
    assert requests.cursor(asked("limit=1"), int) is None


@pytest.mark.parametrize(
    ("query", "at_ms"),
    [
        ("from=1970-01-01T00:00:01Z", 1_000),
        ("from=1970-01-01T00:00:00.5%2B00:00", 500),
        ("from=1970-01-01T03:00:00+03:00", 0),
        ("from=1970-01-01T03:00:00%20" + "03:00", 0),
        ("from=1969-12-31T19:00:00-05:00", 0),
        ("", None),
    ],
)
def test_instants(query: str, at_ms: int | None) -> None:
    assert requests.instant(asked(query), "from") == at_ms


@pytest.mark.parametrize("value", ["", "0", "2026-01-01", "2026-01-01T00:00:00", "now", "%00"])
def test_instants_that_are_none(value: str) -> None:
    with pytest.raises(Problem, match="from"):
        requests.instant(asked(f"from={value}"), "from")


@pytest.mark.parametrize("value", ["0", "-1", "1001", "1.0", "1e2", "%201", "\u0661", "9" * 5_000])
def test_page_sizes_that_are_none(value: str) -> None:
    with pytest.raises(Problem, match="limit"):
        requests.limit(asked(f"limit={value}"))


def test_page_sizes() -> None:
    assert requests.limit(asked("")) == 100
    assert [requests.limit(asked(f"limit={n}")) for n in (1, 1_000)] == [1, 1_000]


@given(st.integers(0, 10**9), st.integers(0, 10**18))
def test_a_position_comes_back_as_it_was(partition: int, offset: int) -> None:
    position = Position(partition, offset)
    assert Position.parse(str(position)) == position


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_location_is_one_segment_of_a_path(name: str) -> None:
    location = requests.location("/v1/things", name)
    assert location.isascii()
    assert location.isprintable()
    assert location.count("/") == 3
    assert not set(location) & set('?# "<>\\^`{|}')
    assert unquote(location.rpartition("/")[2]) == name
