"""Parsing of requests, without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import unquote

import hypothesis.strategies as st
import pytest
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given

from segments.contracts.positions import Position
from segments.http.problems import Problem
from segments.http.routes import requests
from segments.http.routing import body


async def test_a_truncated_body() -> None:
    class Broken:
        async def iter_any(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise web.RequestPayloadError

    request = make_mocked_request("POST", "/v1/things", payload=cast(StreamReader, Broken()))
    with pytest.raises(Problem, match="bad_body"):
        await body.read(request, 100)


@given(st.integers(0, 10**9), st.integers(0, 10**18))
def test_positions_round_trip(partition: int, offset: int) -> None:
    position = Position(partition, offset)
    assert Position.parse(str(position)) == position


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_location_adds_one_path_segment(name: str) -> None:
    location = requests.location("/v1/things", name)
    assert location.isascii()
    assert location.isprintable()
    assert location.count("/") == 3
    assert not set(location) & set('?# "<>\\^`{|}')
    assert unquote(location.rpartition("/")[2]) == name
