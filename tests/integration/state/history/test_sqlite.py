"""The SQLite history store."""

from __future__ import annotations

import asyncio
import csv
import io
import multiprocessing
import random
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from segments.contracts.times import from_rfc3339, to_rfc3339
from segments.state.history.protocol import (
    HistoryError,
    HistoryUnavailableError,
    PastMembership,
    StoredRow,
    StoreProgress,
)
from segments.state.history.reader import BATCH_ROWS, SqliteHistoryReader
from segments.state.history.report_csv import lines
from segments.state.history.writer import SqliteHistoryWriter

USERS = [str(UUID(int=n)) for n in range(1, 6)]


def entry(partition: int, offset: int, at_ms: int, **fields: object) -> StoredRow:
    defaults = StoredRow(
        partition=partition,
        offset=offset,
        at_ms=at_ms,
        user_id=USERS[0],
        segment="a",
        generation=1,
        operation="add",
        cause="command",
        command_id="c",
        actor=None,
        expires_at_ms=None,
    )
    return defaults._replace(**fields)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "history.sqlite3"


async def report_rows(
    reader: SqliteHistoryReader, *period: int, **filters: Any
) -> list[tuple[object, ...]]:
    async with reader.report(*period, **filters) as report:
        rows = [row for batch in [b async for b in report.batches()] for row in batch]
        assert len(rows) == report.row_count
    return [(str(UUID(bytes=user)), *rest) for user, *rest in rows]


async def test_redelivered_rows_are_ignored(path: Path) -> None:
    writer = SqliteHistoryWriter(path, "topic")
    rows = [entry(3, offset, 1_000 + offset) for offset in (5, 6, 9)]
    assert writer.append(3, rows, 10) == 3
    again = [*rows, entry(3, 11, 2_000)]
    assert writer.append(3, again, 12) == 1
    assert writer.append(3, rows[:1], 6) == 0
    assert writer.progress() == {3: StoreProgress(next_offset=12, log_time_ms=2_000, rows=4)}
    reader = SqliteHistoryReader(path)
    assert await reader.progress() == writer.progress()
    assert len(await report_rows(reader, 0, 10_000)) == 4
    await reader.close()
    writer.close()


def test_a_batch_without_rows_advances_the_progress(path: Path) -> None:
    writer = SqliteHistoryWriter(path, "topic")
    assert writer.append(0, [], 8) == 0
    assert writer.progress() == {0: StoreProgress(8, 0, 0)}
    writer.close()


def test_a_failed_batch_leaves_nothing_behind(path: Path) -> None:
    writer = SqliteHistoryWriter(path, "topic")
    with pytest.raises(sqlite3.IntegrityError):
        writer.append(0, [entry(0, 1, 1), entry(0, 2, 2, segment=None)], 3)
    assert writer.progress() == {}
    assert writer.append(0, [entry(0, 1, 1)], 2) == 1
    writer.close()


def test_a_recreated_topic_is_rejected(path: Path) -> None:
    SqliteHistoryWriter(path, "first").close()
    SqliteHistoryWriter(path, "first").close()
    with pytest.raises(HistoryError, match=r"first.*second"):
        SqliteHistoryWriter(path, "second")


async def test_another_schema_version_is_rejected(path: Path) -> None:
    SqliteHistoryWriter(path, "topic").close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HistoryError, match="99"):
        SqliteHistoryWriter(path, "topic")
    with pytest.raises(HistoryUnavailableError):
        await SqliteHistoryReader(path).progress()


async def test_a_missing_store_is_unavailable(path: Path) -> None:
    reader = SqliteHistoryReader(path)
    with pytest.raises(HistoryUnavailableError, match="no history store"):
        await reader.progress()
    with pytest.raises(HistoryUnavailableError):
        await report_rows(reader, 0, 1)
    # As soon as there is one, the same reader reads it.
    writer = SqliteHistoryWriter(path, "topic")
    assert await reader.progress() == {}
    await reader.close()
    writer.close()


def test_a_file_that_is_not_a_database_is_reported(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(HistoryUnavailableError):
        asyncio.run(SqliteHistoryReader(path).progress())


async def test_a_report_has_its_period_order_and_filters(path: Path) -> None:
    writer = SqliteHistoryWriter(path, "topic")
    numbers = random.Random(7)
    rows = [
        entry(
            partition,
            offset,
            numbers.randrange(1_000, 1_050),
            user_id=numbers.choice(USERS),
            segment=numbers.choice("ab"),
            operation=numbers.choice(["add", "remove", "extend"]),
        )
        for partition in range(3)
        for offset in range(200)
    ]
    for partition in range(3):
        writer.append(partition, [row for row in rows if row.partition == partition], 200)
    reader = SqliteHistoryReader(path)

    def expected(**wanted: object) -> list[tuple[object, ...]]:
        found = [
            row
            for row in rows
            if 1_010 <= row.at_ms < 1_040
            and (wanted.get("with_extends") or row.operation != "extend")
            and row.segment == wanted.get("segment", row.segment)
            and row.user_id == wanted.get("user_id", row.user_id)
        ]
        found.sort(key=lambda row: (row.at_ms, row.partition, row.offset))
        return [(row.user_id, row.segment, row.operation, row.at_ms) for row in found]

    for wanted in (
        {},
        {"with_extends": True},
        {"segment": "a"},
        {"user_id": USERS[2]},
        {"segment": "b", "user_id": USERS[1], "with_extends": True},
    ):
        assert await report_rows(reader, 1_010, 1_040, **wanted) == expected(**wanted)
        assert expected(**wanted)
    await reader.close()
    writer.close()


async def test_a_report_reads_one_snapshot(path: Path) -> None:
    writer = SqliteHistoryWriter(path, "topic")
    count = BATCH_ROWS + 5
    writer.append(0, [entry(0, n, 1_000) for n in range(count)], count)
    reader = SqliteHistoryReader(path)
    async with reader.report(0, 2_000) as report:
        batches = report.batches()
        first = await anext(batches)
        assert writer.append(0, [entry(0, count, 1_000)], count + 1) == 1
        rest = [batch async for batch in batches]
        assert len(first) + sum(map(len, rest)) == report.row_count == count
    assert len(await report_rows(reader, 0, 2_000)) == count + 1
    await reader.close()
    writer.close()


async def test_a_user_s_rows_come_newest_first_page_by_page(path: Path) -> None:
    writer = SqliteHistoryWriter(path, "topic")
    mine = [entry(1, n, 1_000 + n // 3, command_id=f"c{n}", actor="me") for n in range(20)]
    others = [entry(1, 100 + n, 1_000 + n, user_id=USERS[1]) for n in range(20)]
    writer.append(1, mine + others, 200)
    reader = SqliteHistoryReader(path)
    found: list[StoredRow] = []
    while page := await reader.user_rows(
        USERS[0], limit=7, before=found[-1].cursor if found else None
    ):
        found += page
    assert found == list(reversed(mine))
    some = await reader.user_rows(USERS[0], from_ms=1_002, to_ms=1_004)
    assert some == [row for row in reversed(mine) if 1_002 <= row.at_ms < 1_004]
    assert await reader.user_rows(USERS[4]) == []
    await reader.close()
    writer.close()


async def test_memberships_as_of_an_instant(path: Path) -> None:
    writer = SqliteHistoryWriter(path, "topic")
    rows = [
        entry(0, 0, 100, segment="kept"),
        entry(0, 1, 100, segment="ends", expires_at_ms=500),
        entry(0, 2, 200, segment="gone", cause="auto"),
        entry(0, 3, 300, segment="ends", operation="extend", expires_at_ms=900),
        entry(0, 4, 300, segment="gone", operation="remove"),
        entry(0, 5, 400, segment="gone", generation=2, expires_at_ms=2_000),
        entry(0, 6, 600, segment="ends", operation="extend", expires_at_ms=None),
    ]
    writer.append(0, rows, 7)
    reader = SqliteHistoryReader(path)

    async def at(at_ms: int) -> list[PastMembership]:
        return await reader.memberships_at(USERS[0], at_ms)

    kept = PastMembership("kept", 1, 100, None, "command")
    assert await at(99) == []
    assert await at(100) == [PastMembership("ends", 1, 100, 500, "command"), kept]
    assert [m.segment for m in await at(250)] == ["ends", "gone", "kept"]
    assert (await at(250))[1].origin == "auto"
    again = PastMembership("gone", 2, 400, 2_000, "command")
    assert await at(550) == [PastMembership("ends", 1, 100, 900, "command"), again, kept]
    # A past expiry applies even before its row is written.
    assert await at(2_000) == [PastMembership("ends", 1, 100, None, "command"), kept]
    assert (await at(1_999))[1] == again
    await reader.close()
    writer.close()


def append_many(path: Path, partition: int) -> None:
    writer = SqliteHistoryWriter(path, "topic")
    for offset in range(100):
        writer.append(partition, [entry(partition, offset, offset)], offset + 1)
    writer.close()


def test_processes_share_a_store(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    writer = SqliteHistoryWriter(path, "topic")
    assert writer.progress() == {n: StoreProgress(100, 99, 100) for n in range(3)}
    writer.close()


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"])
def test_lines_are_csv_with_the_local_time_of_the_zone(zone: str) -> None:
    info = ZoneInfo(zone)
    # Both DST changes of 2026 in Berlin, second by second around them.
    starts = [from_rfc3339("2026-03-29T00:59:58Z"), from_rfc3339("2026-10-25T00:59:58Z")]
    instants = [start + step for start in starts for step in range(0, 4_000, 333)]
    rows = [(UUID(USERS[0]).bytes, "größe_1", "add", at_ms) for at_ms in instants]
    parsed = list(csv.reader(io.StringIO(lines(rows, info).decode()), delimiter=";"))
    for at_ms, (user, segment, operation, instant) in zip(instants, parsed, strict=True):
        assert (user, segment, operation) == (USERS[0], "größe_1", "add")
        assert from_rfc3339(instant) == at_ms
        local = datetime.fromisoformat(instant)
        assert local.utcoffset() == datetime.fromtimestamp(at_ms / 1000, info).utcoffset()


def test_csv_lines_in_utc() -> None:
    rows = [(UUID(USERS[0]).bytes, "a", "remove", at_ms) for at_ms in (0, 999, 1_795_500_000_123)]
    instants = [line.split(";")[3] for line in lines(rows).decode().splitlines()]
    assert instants == [to_rfc3339(row[3]) for row in rows]


@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("Africa/Monrovia", "1972-01-07T00:44:30Z"),  # from -00:44:30, in the middle of a minute
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),  # by half an hour
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ],
)
def test_csv_lines_with_any_distance_between_rows(zone: str, around: str) -> None:
    info, change_ms = ZoneInfo(zone), from_rfc3339(around)
    instants = [change_ms + n * step for step in (1, 10_007, 3_700_001) for n in range(-400, 400)]
    user_id = UUID(USERS[1]).bytes
    for ordered in (sorted(instants), instants):
        rows = [(user_id, "a", "add", at_ms) for at_ms in ordered]
        texts = [line.split(";")[3] for line in lines(rows, info).decode().splitlines()]
        for at_ms, text in zip(ordered, texts, strict=True):
            local = datetime.fromtimestamp(at_ms // 1000, info).isoformat()
            assert text == f"{local[:19]}.{at_ms % 1000:03d}{local[19:]}"
