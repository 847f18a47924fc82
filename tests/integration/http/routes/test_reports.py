"""Report downloads: rows of a month in a time zone, filters, format, links and invalid requests."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from segments.state.history.protocol import StoredRow
from tests.support.sidecar import (
    PARTITIONS,
    Sidecar,
    assert_problem,
    entry,
    report_rows,
    running,
    store,
)

USERS = [str(UUID(int=n << 120 | n)) for n in range(1, 6)]
SEGMENTS = ["A", "é:1", "Москва"]
ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Auckland"]
# Months in which some of these zones change their clocks, on whose first or last day it is another
# month elsewhere.
MONTHS = ["2018-11", "2024-02", "2025-03", "2025-10", "2025-11"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def boundaries() -> list[int]:
    """Timestamps at which a month starts in some zone, found by trying every quarter of an hour."""
    found = []
    for zone in map(ZoneInfo, ZONES):
        for month in MONTHS:
            year, number = map(int, month.split("-"))
            for y, m in ((year, number), (year + number // 12, number % 12 + 1)):
                moment = datetime(y, m, 1, tzinfo=UTC) - timedelta(hours=16)
                while moment.astimezone(zone).strftime("%Y-%m") != f"{y:04}-{m:02}":
                    moment += timedelta(minutes=15)
                found.append(instant_ms(moment))
    return found


def rows() -> list[StoredRow]:
    """Rows just before, at and after every boundary, and others; several per timestamp."""
    chooser = random.Random(7)
    instants = [at + offset for at in boundaries() for offset in (-3_600_000, -1, 0, 1, 3_599_999)]
    instants += [chooser.randrange(min(instants), max(instants)) for _ in range(400)]
    instants += [1_743_400_000_000] * 5
    entries = [
        entry(
            chooser.randrange(PARTITIONS),
            0,
            at_ms,
            chooser.choice(USERS),
            segment=chooser.choice(SEGMENTS),
            operation=chooser.choice(["add", "remove", "extend"]),
        )
        for at_ms in sorted(instants)
    ]
    return [each._replace(offset=number) for number, each in enumerate(entries)]


ROWS = rows()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    store(folder, ROWS)
    return folder


@pytest.fixture
async def sidecar(folder: Path) -> AsyncIterator[Sidecar]:
    async with running(folder) as sidecar:
        yield sidecar


def oracle(month: str, zone: str, **wanted: Any) -> list[tuple[str, str, str, int]]:
    """The expected report, from the local time of each row instead of computed bounds."""
    found: list[tuple[str, str, str, int]] = []
    for each in sorted(ROWS, key=lambda row: (row.at_ms, row.partition, row.offset)):
        on_the_wall = (EPOCH + timedelta(milliseconds=each.at_ms)).astimezone(ZoneInfo(zone))
        if on_the_wall.strftime("%Y-%m") != month:
            continue
        if each.operation == "extend" and wanted.get("operations") != "all":
            continue
        if wanted.get("segment", each.segment) != each.segment:
            continue
        if wanted.get("user_id", each.user_id) != each.user_id:
            continue
        found.append((each.user_id, each.segment, each.operation, each.at_ms))
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("month", MONTHS)
async def test_the_rows_of_a_month_with_a_clock_change(
    sidecar: Sidecar, month: str, zone: str
) -> None:
    response = await sidecar.get(f"/v1/reports/{month}.csv", params={"timezone": zone})
    assert response.status_code == 200
    assert report_rows(response.text) == oracle(month, zone)
    assert response.headers["segments-row-count"] == str(response.text.count("\n"))
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == f'attachment; filename="{month}.csv"'
    local = datetime.fromisoformat(response.headers["segments-complete-until"])
    assert local.astimezone(ZoneInfo(zone)).strftime("%d %H:%M:%S") == "01 00:00:00"
    for line in response.text.splitlines():
        shown = datetime.fromisoformat(line.rsplit(";", 1)[1])
        there = shown.astimezone(ZoneInfo(zone))
        assert shown.utcoffset() == there.utcoffset(), "not in the requested zone"


async def test_consecutive_months_contain_every_row_once(sidecar: Sidecar) -> None:
    for zone in ZONES:
        total = 0
        for year in range(2018, 2027):
            for month in range(1, 13):
                if datetime(year, month, 1, tzinfo=UTC) > datetime.now(UTC):
                    continue
                params = {"timezone": zone, "operations": "all"}
                response = await sidecar.client.head(
                    f"/v1/reports/{year}-{month:02}.csv", params=params
                )
                total += int(response.headers["segments-row-count"])
        assert total == len(ROWS)


@pytest.mark.parametrize(
    "query",
    [
        {"operations": "all"},
        {"operations": "changes"},
        {"segment": "Москва"},
        {"segment": "unknown"},
        {"user_id": USERS[0]},
        {"user_id": USERS[0], "segment": "é:1", "operations": "all"},
    ],
)
async def test_filters(sidecar: Sidecar, query: dict[str, str]) -> None:
    response = await sidecar.get("/v1/reports/2025-03.csv", params=query)
    assert report_rows(response.text) == oracle("2025-03", "UTC", **query)


async def test_the_format_of_lines_and_header(sidecar: Sidecar) -> None:
    plain = (await sidecar.get("/v1/reports/2025-03.csv")).text
    user, segment, operation, at = plain.splitlines()[0].split(";")
    assert (user in USERS, segment in SEGMENTS, operation in ("add", "remove")) == (True,) * 3
    assert at.endswith("Z")
    with_header = await sidecar.get("/v1/reports/2025-03.csv?header=true")
    assert with_header.text == "user;segment;operation;datetime\n" + plain
    assert with_header.headers["segments-row-count"] == str(plain.count("\n"))
    empty = await sidecar.get("/v1/reports/2001-01.csv?header=true")
    assert empty.text == "user;segment;operation;datetime\n"
    assert empty.headers["segments-row-count"] == "0"


async def test_the_link_opens_the_requested_report(sidecar: Sidecar) -> None:
    body = {
        "month": "2025-03",
        "timezone": "Europe/Berlin",
        "segment": "Москва",
        "user_id": USERS[1].upper(),
        "operations": "all",
        "header": True,
    }
    response = await sidecar.client.post("/v1/reports", json=body)
    assert response.status_code == 201
    url = response.json()["url"]
    assert response.json() == {"url": url}
    assert response.headers["location"] == url
    assert url.isascii()
    assert url.startswith(f"http://127.0.0.1:{sidecar.port}/v1/reports/2025-03.csv?")
    opened = await sidecar.get(url)
    header, _, lines = opened.text.partition("\n")
    assert header == "user;segment;operation;datetime"
    wanted = {"segment": "Москва", "user_id": USERS[1], "operations": "all"}
    assert report_rows(lines) == oracle("2025-03", "Europe/Berlin", **wanted)
    plain = await sidecar.client.post("/v1/reports", json={"month": "2025-03"})
    assert plain.json()["url"].endswith("/v1/reports/2025-03.csv")


async def test_the_link_uses_the_public_url(folder: Path) -> None:
    async with running(folder, public_url="https://segments.example/api/") as sidecar:
        response = await sidecar.client.post("/v1/reports", json={"month": "2025-03"})
        assert response.json()["url"] == "https://segments.example/api/v1/reports/2025-03.csv"


MONTHS_THAT_ARE_NONE = [
    "2025-13",
    "2025-00",
    "2025-1",
    "25-01",
    "2025",
    "1969-12",
    "9999-01",
    "+025-01",
    "2025-01-01",
    "x",
]


@pytest.mark.parametrize("month", MONTHS_THAT_ARE_NONE)
async def test_invalid_months(sidecar: Sidecar, month: str) -> None:
    assert_problem(await sidecar.get(f"/v1/reports/{month}.csv"), 400, "invalid")
    response = await sidecar.client.post("/v1/reports", json={"month": month})
    problem = assert_problem(response, 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == ["month"]


async def test_months_in_the_future(sidecar: Sidecar) -> None:
    this = datetime.now(UTC)
    following = f"{this.year + this.month // 12:04}-{this.month % 12 + 1:02}"
    for month in (following, "9998-12"):
        response = await sidecar.get(f"/v1/reports/{month}.csv")
        assert_problem(response, 404, "month_in_future")
        response = await sidecar.client.post("/v1/reports", json={"month": month})
        assert_problem(response, 404, "month_in_future")


@pytest.mark.parametrize(
    "query",
    [
        "timezone=Berlin",
        "timezone=../../etc/passwd",
        "timezone=/etc/localtime",
        "timezone=",
        "timezone=Europe",
        "segment==A",
        "segment=",
        "user_id=7",
        "operations=some",
        "header=yes",
        "header",
        "format=xlsx",
        "timezone=UTC&timezone=UTC",
    ],
)
async def test_invalid_queries(sidecar: Sidecar, query: str) -> None:
    assert_problem(await sidecar.get(f"/v1/reports/2025-03.csv?{query}"), 400, "invalid")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["month"]),
        ({"month": "2025-03", "zone": "UTC"}, ["zone"]),
        ({"month": "2025-03", "timezone": "Mars"}, ["timezone"]),
        ({"month": 202503}, ["month"]),
        ({"month": "2025-03", "operations": "some", "header": "x"}, ["operations", "header"]),
        ({"month": "2025-03", "segment": "=A", "user_id": "7"}, ["segment", "user_id"]),
    ],
)
async def test_invalid_bodies(sidecar: Sidecar, body: Any, fields: list[str]) -> None:
    problem = assert_problem(await sidecar.client.post("/v1/reports", json=body), 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == fields
