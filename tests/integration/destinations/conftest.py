"""Fixtures: a history store with a month of rows, and a destination of each kind."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import pytest
from moto.server import ThreadedMotoServer

from tests.support.destinations.dropbox_double import dropbox_double
from tests.support.destinations.month import MARCH_MS, ROWS
from tests.support.destinations.places import (
    BUCKET,
    KINDS,
    DropboxPlace,
    FolderPlace,
    Place,
    S3Place,
    sftp_place,
)
from tests.support.destinations.proxy import Proxy, proxy_to
from tests.support.sidecar import PARTITIONS, entry, store


@pytest.fixture(scope="session")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose history has ROWS rows in 2025-03, and a few with filters in 2025-02."""
    folder = tmp_path_factory.mktemp("month")
    chooser = random.Random(11)
    users = [str(UUID(int=chooser.getrandbits(128))) for _ in range(1_000)]
    segments = ["newsletter", "beta", "é:1", "Москва"]
    rows = [
        entry(
            number % PARTITIONS,
            number,
            MARCH_MS + number * 10,
            users[number % 1_000],
            segment=segments[number % 4],
            operation="remove" if number % 7 == 0 else "add",
        )
        for number in range(ROWS)
    ]
    rows += [
        entry(n % PARTITIONS, ROWS + n, MARCH_MS - 1_000 + n, users[n], segment=segments[n % 4])
        for n in range(40)
    ]
    store(folder, rows)
    return folder


@pytest.fixture
def data(month: Path, tmp_path: Path) -> Path:
    """A data folder for one test, with the shared history."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "history").symlink_to(month / "history")
    return folder


@pytest.fixture(scope="session")
def moto() -> Iterator[ThreadedMotoServer]:
    """An S3 server with a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    place = S3Place(server, Proxy(("", 0)), "")
    place.client.create_bucket(Bucket=BUCKET)
    yield server
    server.stop()


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A destination of each kind."""
    async with AsyncExitStack() as stack:
        if request.param == "folder":
            yield FolderPlace(tmp_path / "reports")
        elif request.param == "sftp":
            yield await stack.enter_async_context(sftp_place(tmp_path / "reports"))
        elif request.param == "dropbox":
            yield DropboxPlace(await stack.enter_async_context(dropbox_double()))
        else:
            server = request.getfixturevalue("moto")
            proxy = await stack.enter_async_context(proxy_to(*server.get_host_and_port()))
            yield S3Place(server, proxy, f"{tmp_path.name}/")
