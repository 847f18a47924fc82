"""`segments send --file` and `segments users import` against a running deployment."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from segments.process.ports import free_port
from segments.settings import DevSettings, Settings
from segments.settings.environment import child_environment
from tests.support import deployments
from tests.support.api import Api

CLI = [sys.executable, "-m", "segments.cli"]
IDS = 20_000


def cli(settings: Settings, *arguments: object) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        [*CLI, *map(str, arguments)],
        env=child_environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished


def new_ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def rejected(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def change(user: str, **fields: Any) -> str:
    return json.dumps({"type": "change_memberships", "user_id": user, **fields})


# --- send --file ---


@pytest.mark.timeout(400)
def test_file_of_user_ids_is_added_to_a_segment(api: Api, tmp_path: Path) -> None:
    segment, users = api.segment("loaded"), new_ids(IDS)
    file = tmp_path / "ids.txt"
    # As other systems write it: byte order mark, CRLF, empty lines, invalid ids.
    lines = [*users[:10], "", "nobody", *users[10:], users[0], "\xff"]
    text = "\r\n".join(lines).encode("latin-1")
    file.write_bytes(b"\xef\xbb\xbf" + text)
    finished = cli(api.settings, "send", "--file", file, "--add", segment)
    assert finished.returncode == 1
    assert finished.stdout.splitlines() == [
        f"{IDS + 3} lines: {IDS} applied, 2 invalid, 1 unchanged",
        f"2 failed lines are in {file}.rejected",
    ]
    found = rejected(Path(f"{file}.rejected"))
    assert [line["line"] for line in found] == [12, IDS + 4]
    assert found[0]["text"] == "nobody"
    assert "UUID" in found[0]["detail"]
    deployments.wait_until(
        lambda: api.get(f"/v1/segments/{segment}").json()["size"] == IDS, what="every member"
    )
    finished = cli(api.settings, "send", "--file", file, "--remove", segment, "--rejected", file)
    assert finished.returncode == 1
    assert "is the file to be sent" in finished.stderr
    assert file.read_bytes().endswith(text)


def test_file_of_commands_reports_every_outcome(api: Api, tmp_path: Path) -> None:
    segment, (first, second, third) = api.segment("sent"), new_ids(3)
    new = f"{segment}-new"
    lines = [
        json.dumps({"type": "create_segment", "segment": new}),
        change(first, add=[segment, new]),
        change(second, id=f"{segment}-id", add=[segment]),
        change(second, id=f"{segment}-id", add=[segment]),
        change(third, add=[{"segment": segment, "expires_at": "2020-01-01T00:00:00Z"}]),
        change(third, add=[segment], surprise=1),
        "not json",
        '"' + "x" * 1_000_001 + '"',
        change(third, remove=[segment]),
        json.dumps({"type": "create_segment", "segment": segment}),
    ]
    file, target = tmp_path / "commands.ndjson", tmp_path / "rejected.ndjson"
    file.write_text("\n".join(lines), "utf-8")
    finished = cli(api.settings, "send", "--file", file, "--rejected", target)
    assert finished.returncode == 1
    counts = "4 applied, 3 invalid, 2 rejected, 1 unchanged"
    assert finished.stdout.splitlines()[0] == f"10 lines: {counts}", finished.stdout
    found = {line["line"]: line for line in rejected(target)}
    assert set(found) == {5, 6, 7, 8, 10}
    assert found[5]["error"]["code"] == "already_expired"
    assert found[10]["error"]["code"] == "segment_exists"
    assert found[6]["detail"].startswith("surprise:")
    assert found[8]["detail"] == "a line has at most 1000000 bytes"
    assert len(found[8]["text"]) == 200
    assert json.loads(found[5]["text"])["user_id"] == third
    assert sorted(api.segments_of(first)) == [segment, new]


def test_valid_file_leaves_no_rejected_file(api: Api, tmp_path: Path) -> None:
    segment, users = api.segment("fine"), new_ids(3)
    file = tmp_path / "ids"
    file.write_text("\n".join(users), "ascii")
    previous = tmp_path / "ids.rejected"
    previous.write_text("of a previous run", "ascii")
    finished = cli(api.settings, "send", "--file", file, "--add", segment)
    assert (finished.returncode, finished.stdout) == (0, "3 lines: 3 applied\n")
    assert not previous.exists()
    file.write_text("\n\n", "ascii")
    finished = cli(api.settings, "send", "--file", file, "--add", segment)
    assert (finished.returncode, finished.stdout) == (0, "0 lines: nothing to send\n")


# --- users import ---


@pytest.mark.parametrize("name", ["users.csv", "users.CSV.gz", "users.ndjson", "users.jsonl.gz"])
def test_users_are_imported_from_a_file(api: Api, tmp_path: Path, name: str) -> None:
    users = new_ids(500)
    if "csv" in name.lower():
        text = "user_id;state\n" + "".join(f"{user};blocked\n" for user in users) + "x;active\n"
    else:
        lines = [json.dumps({"user_id": user, "state": "blocked"}) for user in users]
        text = "\n".join([*lines, json.dumps({"user_id": "x", "state": "active"})])
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    finished = cli(api.settings, "users", "import", file)
    assert finished.returncode == 1, finished.stderr
    first, second = finished.stdout.splitlines()
    assert first == "500 users accepted, 1 lines rejected"
    assert second == f"line {501 + ('csv' in name.lower())}: user_id: a user id must be a UUID"
    query = {"user_ids": users}

    def all_blocked() -> bool:
        items = api.client.post("/v1/memberships/query", json=query).json()["items"]
        return Counter(item["account"] for item in items) == {"blocked": 500}

    deployments.wait_until(all_blocked, what="every user")


def test_files_that_cannot_be_imported(api: Api, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(b"x;active\n" * 1_000)[:-9])
    for path, reason in (
        (tmp_path / "none.csv", "no such file"),
        (Path(__file__), "extension must be"),
        (broken, "the gzip body is truncated"),
    ):
        finished = cli(api.settings, "users", "import", path)
        assert finished.returncode == 1
        assert reason in finished.stderr, finished.stderr
    nowhere = f"http://127.0.0.1:{free_port()}"
    finished = cli(api.settings, "users", "import", broken, "--url", nowhere)
    assert finished.returncode == 1
    assert nowhere in finished.stderr


def is_live(api: Api) -> bool:
    try:
        return api.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def without_developer_methods(api: Api) -> Iterator[Settings]:
    """A second sidecar of the deployment, as in production."""
    http = api.settings.http.model_copy(update={"port": free_port()})
    settings = api.settings.model_copy(
        update={"instance": 1, "http": http, "dev": DevSettings(enabled=False)}
    )
    process = deployments.start(settings, "http")
    second = Api(settings)
    deployments.wait_until(lambda: is_live(second), what="the second sidecar")
    second.close()
    yield settings
    process.stop()


def test_import_needs_developer_methods(
    without_developer_methods: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "users.csv"
    # More than fits into the buffers, so that the response arrives while sending.
    file.write_bytes(f"{uuid.uuid4()};active\n".encode() * 400_000)
    finished = cli(without_developer_methods, "users", "import", file)
    assert finished.returncode == 1
    assert "dev.enabled" in finished.stderr
