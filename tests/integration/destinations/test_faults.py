"""Failing destinations: no partial file under the final name, no leftovers, a reason in the job."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from segments.destinations import base, folder
from segments.destinations.s3 import S3Upload
from tests.support.destinations.dropbox_double import APP_KEY, APP_SECRET, REFRESH_TOKEN
from tests.support.destinations.jobs import direct, order, put, serving
from tests.support.destinations.places import DropboxPlace, FolderPlace, Place, S3Place, SftpPlace

over_network = pytest.mark.parametrize("place", ["s3", "sftp", "dropbox"], indirect=True)
on_s3 = pytest.mark.parametrize("place", ["s3"], indirect=True)
on_sftp = pytest.mark.parametrize("place", ["sftp"], indirect=True)
on_dropbox = pytest.mark.parametrize("place", ["dropbox"], indirect=True)
in_folder = pytest.mark.parametrize("place", ["folder"], indirect=True)

SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 61\r\n"
    b"Connection: close\r\n\r\n<Error><Code>SlowDown</Code><Message>later</Message></Error>\n"
)


@pytest.fixture(autouse=True)
def _short_cleanup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination that stalls also stalls the cleanup."""
    monkeypatch.setattr(base, "CLEANUP_S", 0.3)


def fail(place: Place, what: str, times: int = 1) -> None:
    """Make the destination fail in the middle of the file."""
    if isinstance(place, DropboxPlace):
        place.double.failures += [("append_v2", what)] * times
    elif isinstance(place, S3Place):
        place.proxy.make(what, after_bytes=3_000_000, times=times)
    elif isinstance(place, SftpPlace):
        place.trouble.make(what, after_bytes=3_000_000, times=times)


@over_network
@pytest.mark.parametrize("what", ["cut", "stall"])
async def test_an_interrupted_attempt_leaves_nothing_and_the_next_succeeds(
    data: Path, place: Place, what: str
) -> None:
    fail(place, what)
    # The limit is generous for a busy machine; only the stall waits until it is reached.
    async with serving(data, place, step_timeout_s=6 if what == "stall" else 20) as sidecar:
        job = await put(sidecar)
        expected = await direct(sidecar)
    assert job["state"] == "done", job
    assert place.files() == {job["name"]: expected}
    assert place.leftovers() == []


@over_network
async def test_a_destination_that_always_fails_has_no_files(
    data: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(place, "cut", times=1_000)
    monkeypatch.setattr("segments.destinations.dropbox_calls._BACKOFF_S", 0.001)
    async with serving(data, place, attempts=2) as sidecar:
        job = await put(sidecar)
        fail(place, "cut", times=0)
    assert (job["state"], job["attempts"], job["url"]) == ("failed", 2, None), job
    assert job["error"]["code"] in ("unreachable", "failed"), job
    assert place.files() == {}
    assert place.leftovers() == []


@on_s3
async def test_503_from_s3_is_retried(data: Path, place: S3Place) -> None:
    place.proxy.make("answer", after_bytes=0, times=2, answer=SLOW_DOWN)
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
        expected = await direct(sidecar, "2025-02")
    assert job["state"] == "done", job
    assert place.files() == {job["name"]: expected}


@on_dropbox
@pytest.mark.parametrize("route", ["start", "append_v2", "finish", "create_shared_link"])
@pytest.mark.parametrize("what", ["429", "500", "503", "lost"])
async def test_transient_errors_of_dropbox_are_retried(
    data: Path, place: DropboxPlace, what: str, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segments.destinations.dropbox_calls._BACKOFF_S", 0.001)
    ending = "create_shared_link_with_settings" if route == "create_shared_link" else route
    place.double.failures += [(ending, what)] * 2
    month = "2025-03" if route == "append_v2" else "2025-02"
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month=month)
        expected = await direct(sidecar, month)
    assert job["state"] == "done", job
    assert place.files() == {job["name"]: expected}
    assert job["url"].startswith("https://www.dropbox.com/"), job
    assert place.double.failures == []


@on_dropbox
@pytest.mark.parametrize(("what", "code"), [("short", "differs"), ("full", "full")])
async def test_the_file_stored_by_dropbox_is_verified(
    data: Path, place: DropboxPlace, what: str, code: str
) -> None:
    place.double.failures += [("finish", what)] * 2
    async with serving(data, place, attempts=2) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["error"]["code"]) == ("failed", code), job
    assert place.files() == {}


@on_sftp
async def test_the_file_stored_by_sftp_is_verified(data: Path, place: SftpPlace) -> None:
    place.trouble.make("short", after_bytes=0)
    async with serving(data, place, attempts=1) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["error"]["code"]) == ("failed", "differs"), job
    assert (place.files(), place.leftovers()) == ({}, [])


@on_s3
@pytest.mark.parametrize("whose", ["2025-02", "2025-03"])
async def test_the_object_stored_by_s3_is_verified(
    data: Path, place: S3Place, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_object = S3Upload._create_object

    async def other(upload: S3Upload) -> str:
        return "0" + (await create_object(upload))[1:-1]

    with monkeypatch.context() as patched:
        patched.setattr(S3Upload, "_create_object", other)
        async with serving(data, place, attempts=1) as sidecar:
            job = await put(sidecar, month=whose)
    assert (job["state"], job["error"]["code"]) == ("failed", "differs"), job
    assert "ETag" in job["error"]["detail"]
    assert (place.files(), place.leftovers()) == ({}, [])


WRONG: dict[str, dict[str, Any]] = {
    "sftp": {"password": "not the password"},
    "dropbox": {"access_token": "sl.not-the-token"},
}


@pytest.mark.parametrize("place", WRONG, indirect=True)
async def test_wrong_credentials_are_not_retried(data: Path, place: Place) -> None:
    place.settings |= WRONG[place.settings["kind"]]
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["attempts"]) == ("failed", 1), job
    assert job["error"]["code"] == "refused", job
    for secret in ("not the password", "sl.not-the-token"):
        assert secret not in str(job)
    assert place.files() == {}


@on_s3
@pytest.mark.parametrize(("name", "value"), [("bucket", "no-such-bucket")])
async def test_a_missing_bucket(data: Path, place: S3Place, name: str, value: str) -> None:
    place.settings[name] = value
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["attempts"], job["error"]["code"]) == ("failed", 1, "refused"), job
    assert "NoSuchBucket" in job["error"]["detail"]


@on_s3
async def test_an_unknown_s3_access_key(data: Path, place: S3Place) -> None:
    body = b"<Error><Code>InvalidAccessKeyId</Code><Message>unknown</Message></Error>"
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
    place.proxy.make("answer", times=9, answer=head % len(body) + body)
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["attempts"], job["error"]["code"]) == ("failed", 1, "refused"), job


@on_sftp
async def test_no_credentials_are_sent_to_a_server_with_another_host_key(
    data: Path, place: SftpPlace
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    place.settings["host_key"] = other
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["attempts"], job["error"]["code"]) == ("failed", 1, "refused"), job
    assert "HostKeyNotVerifiable" in job["error"]["detail"]
    assert place.files() == {}


@on_sftp
async def test_the_host_key_is_looked_up_in_known_hosts(
    data: Path, place: SftpPlace, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{place.port} {place.settings.pop('host_key')}\n")
    place.settings["known_hosts"] = str(known)
    password = tmp_path / "password"
    password.write_text(place.settings.pop("password") + "\n")
    place.settings["password_file"] = str(password)
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
        assert job["state"] == "done", job
        known.write_text("")
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["error"]["code"]) == ("failed", "refused"), job


@on_sftp
async def test_a_full_disk_of_the_sftp_server(data: Path, place: SftpPlace) -> None:
    place.trouble.make("full", after_bytes=3_000_000, times=2)
    async with serving(data, place, attempts=2) as sidecar:
        job = await put(sidecar)
    assert (job["state"], job["error"]["code"]) == ("failed", "full"), job
    assert place.files() == {}
    assert place.leftovers() == []


@in_folder
async def test_a_local_disk_that_fills_up_during_the_upload(
    data: Path, place: FolderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 3_000_000

    def write(descriptor: int, chunk: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room -= len(chunk)
        return os.write(descriptor, chunk)

    monkeypatch.setattr(folder, "_write", write)
    async with serving(data, place, attempts=2) as sidecar:
        job = await put(sidecar)
        assert (job["state"], job["error"]["code"]) == ("failed", "full"), job
        assert (place.files(), place.leftovers()) == ({}, [])
        room = 10**9
        job = await put(sidecar)
        assert place.files() == {job["name"]: await direct(sidecar)}


@in_folder
async def test_a_missing_folder(data: Path, place: FolderPlace) -> None:
    place.settings["path"] = str(place.folder / "elsewhere")
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["attempts"], job["error"]["code"]) == ("failed", 1, "refused"), job
    assert "elsewhere" in job["error"]["detail"]


@over_network
async def test_a_job_has_a_time_limit(data: Path, place: Place) -> None:
    fail(place, "stall", times=100)
    async with serving(data, place, timeout_s=3) as sidecar:
        response = await order(sidecar)
        found = await sidecar.get(response.headers["location"], headers={"Prefer": "wait=30"})
    job = found.json()
    assert (job["state"], job["error"]["code"]) == ("failed", "timeout"), job
    assert place.files() == {}


@on_dropbox
async def test_a_refresh_token_is_exchanged(data: Path, place: DropboxPlace) -> None:
    del place.settings["access_token"]
    place.settings |= {
        "app_key": APP_KEY,
        "app_secret": APP_SECRET,
        "refresh_token": REFRESH_TOKEN,
    }
    place.double.tokens.clear()
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
        assert job["state"] == "done", job
        place.settings["app_secret"] = "wrong"
    async with serving(data, place) as sidecar:
        job = await put(sidecar, month="2025-02")
    assert (job["state"], job["error"]["code"]) == ("failed", "refused"), job
    assert "wrong" not in str(job)


@over_network
async def test_a_cancelled_job_leaves_nothing(data: Path, place: Place) -> None:
    fail(place, "stall")
    stalled: asyncio.Event
    if isinstance(place, DropboxPlace):
        stalled = place.double.stalled
    else:
        assert isinstance(place, (S3Place, SftpPlace))
        stalled = place.proxy.stalled if isinstance(place, S3Place) else place.trouble.stalled
    async with serving(data, place) as sidecar:
        response = await order(sidecar)
        async with asyncio.timeout(60):
            await stalled.wait()
        cancelled = await sidecar.client.delete(response.headers["location"])
        job = cancelled.json()
    assert (job["state"], job["error"]["code"]) == ("failed", "cancelled"), job
    assert (place.files(), place.leftovers()) == ({}, [])
