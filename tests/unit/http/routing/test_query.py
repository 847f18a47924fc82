"""Query parameters: valid and invalid values."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

import hypothesis.strategies as st
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from pydantic import BeforeValidator, Field

from segments.http.problems import Problem
from segments.http.routing.query import (
    CURSOR_SCHEMA,
    PageQuery,
    Query,
    QueryInstant,
    cursor_decoder,
    encode_cursor,
)

int64 = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(codec="utf-8"))


class ExampleQuery(PageQuery):
    from_ms: Annotated[QueryInstant | None, Field(alias="from")] = None
    cursor: Annotated[
        list[Any] | None, BeforeValidator(cursor_decoder(int, str)), CURSOR_SCHEMA
    ] = None


def parse_query(query: str, model: type[Query] = ExampleQuery) -> Any:
    return model.parse(make_mocked_request("GET", f"/v1/things?{query}"))


def rejection(query: str, model: type[Query] = ExampleQuery) -> str:
    """The detail of the problem for an invalid query."""
    with pytest.raises(Problem) as caught:
        parse_query(query, model)
    assert (caught.value.status, caught.value.code) == (400, "invalid")
    return caught.value.detail


@given(st.lists(st.one_of(int64, text), min_size=1, max_size=4))
def test_cursors_round_trip(place: list[Any]) -> None:
    cursor = encode_cursor(place)
    assert cursor.isascii()
    assert unquote(cursor) == cursor
    types = [type(part) for part in place]
    assert cursor_decoder(*types)(cursor) == place
    with pytest.raises(ValueError, match="not a cursor"):
        cursor_decoder(*types, int)(cursor)


@pytest.mark.parametrize(
    "place", [[2**63], [1.5], [True], [None], ["1"], [], [1, 2], {"a": 1}, 7, "x"]
)
def test_a_cursor_with_other_types(place: Any) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        cursor_decoder(int)(encode_cursor(place))


@given(text)
def test_any_text_as_a_cursor(text: str) -> None:
    """Either a place or Problem 400."""
    request = make_mocked_request("GET", "/v1/things")
    request._rel_url = request.rel_url.with_query(cursor=text)
    status, place = 200, None
    try:
        place = ExampleQuery.parse(request).cursor
    except Problem as problem:
        status = problem.status
    assert (status, place is None) in ((200, False), (400, True))


def test_no_parameters() -> None:
    nothing = parse_query("")
    assert (nothing.cursor, nothing.from_ms, nothing.limit) == (None, None, 100)
    assert parse_query("", Query) == Query()


@pytest.mark.parametrize(
    ("query", "at_ms"),
    [
        ("from=1970-01-01T00:00:01Z", 1_000),
        ("from=1970-01-01T00:00:00.5%2B00:00", 500),
        ("from=1970-01-01T03:00:00+03:00", 0),
        ("from=1970-01-01T03:00:00%20" + "03:00", 0),
        ("from=1969-12-31T19:00:00-05:00", 0),
        ("limit=1", None),
    ],
)
def test_instants(query: str, at_ms: int | None) -> None:
    assert parse_query(query).from_ms == at_ms


@pytest.mark.parametrize("value", ["", "0", "2026-01-01", "2026-01-01T00:00:00", "now", "%00"])
def test_invalid_instants(value: str) -> None:
    assert rejection(f"from={value}").startswith("from: a timestamp must be")


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "1001", "1.0", "1e2", "%201", "\u0661", "9" * 5_000, "true"]
)
def test_invalid_page_sizes(value: str) -> None:
    assert rejection(f"limit={value}").startswith("limit: ")


def test_page_sizes() -> None:
    assert [parse_query(f"limit={n}").limit for n in (1, 1_000)] == [1, 1_000]


def test_unknown_parameters() -> None:
    assert rejection("nothing=1") == "no such parameter: 'nothing'"
    # The name of the field is not the name of the parameter.
    assert rejection("from_ms=1") == "no such parameter: 'from_ms'"
    assert rejection("limit=1", Query) == "no such parameter: 'limit'"
    assert len(rejection("a" * 5_000 + "=1")) < 100


def test_a_repeated_parameter() -> None:
    assert rejection("limit=1&limit=1") == "limit is present more than once"
