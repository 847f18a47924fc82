"""Destinations on real servers, with a common interface to their files and leftovers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncssh
import boto3
from moto.server import ThreadedMotoServer

from tests.support.destinations.dropbox_double import ACCESS_TOKEN, DropboxDouble
from tests.support.destinations.proxy import Proxy

KINDS = ("folder", "s3", "sftp", "dropbox")
BUCKET = "reports"
PASSWORD = "correct-horse-battery"
SECRET_KEY = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"


class Place(Protocol):
    """A destination, as its owner sees it: settings, files and leftovers."""

    settings: dict[str, Any]

    def files(self) -> dict[str, bytes]:
        """Completed files by name."""

    def leftovers(self) -> list[str]:
        """Names of unfinished uploads."""


class FolderPlace:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.settings: dict[str, Any] = {"kind": "folder", "path": str(folder)}

    def files(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.folder.iterdir() if p.name[0] != "."}

    def leftovers(self) -> list[str]:
        return [p.name for p in self.folder.iterdir() if p.name[0] == "."]


class S3Place:
    """moto's server behind a proxy that can fail."""

    def __init__(self, server: ThreadedMotoServer, proxy: Proxy, prefix: str) -> None:
        host, port = server.get_host_and_port()
        self.proxy = proxy
        self.prefix = prefix
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.settings: dict[str, Any] = {
            "kind": "s3",
            "bucket": BUCKET,
            "prefix": prefix,
            "endpoint_url": f"http://127.0.0.1:{proxy.port}",
            "region": "us-east-1",
            "addressing": "path",
            "access_key": "test",
            "secret_key": SECRET_KEY,
        }

    def files(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=self.prefix)
        return {
            each["Key"].removeprefix(self.prefix): self.client.get_object(
                Bucket=BUCKET, Key=each["Key"]
            )["Body"].read()
            for each in found.get("Contents", [])
        }

    def leftovers(self) -> list[str]:
        found = self.client.list_multipart_uploads(Bucket=BUCKET)
        keys = [each["Key"] for each in found.get("Uploads", [])]
        return [key for key in keys if key.startswith(self.prefix)]


class SftpPlace:
    """asyncssh's server over a folder."""

    def __init__(self, files: FolderPlace, host_key: asyncssh.SSHKey, port: int) -> None:
        self.files_of = files
        self.host_key = host_key
        self.port = port
        self.trouble = Trouble()
        self.settings: dict[str, Any] = {
            "kind": "sftp",
            "host": "127.0.0.1",
            "port": port,
            "username": "reports",
            "password": PASSWORD,
            "host_key": host_key.export_public_key().decode().strip(),
            "path": "/",
        }

    def files(self) -> dict[str, bytes]:
        return self.files_of.files()

    def leftovers(self) -> list[str]:
        return self.files_of.leftovers()


class Trouble:
    """A failure of the SFTP server: its type, after how many bytes, and how many times."""

    def __init__(self) -> None:
        self.what = ""
        self.after_bytes = 0
        self.times = 0
        self.taken = 0
        self.stalled = asyncio.Event()

    def make(self, what: str, after_bytes: int, times: int = 1) -> None:
        self.what, self.after_bytes, self.times, self.taken = what, after_bytes, times, 0

    async def meet(self, data: bytes, connection: Any) -> bytes:
        """Fail if it is time; returns the data to write."""
        self.taken += len(data)
        if self.times == 0 or self.taken <= self.after_bytes:
            return data
        self.times -= 1
        self.taken = 0
        if self.what == "cut":
            connection.abort()
        elif self.what == "full":
            raise asyncssh.SFTPFailure("write failed: No space left on device")
        elif self.what == "stall":
            self.stalled.set()
            await asyncio.sleep(3600)
        return data[:-1]


@asynccontextmanager
async def sftp_place(folder: Path, port: int = 0) -> AsyncIterator[SftpPlace]:
    """An SFTP server with one user and a new host key."""
    files = FolderPlace(folder)
    place: SftpPlace

    class Login(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("reports", PASSWORD)

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            super().__init__(channel, chroot=os.fsencode(folder))
            self._connection = channel.get_connection()

        async def write(self, file_obj: object, offset: int, data: bytes) -> int:
            written = await place.trouble.meet(data, self._connection)
            super().write(file_obj, offset, written)
            return len(data)

    host_key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1",
        port,
        server_factory=Login,
        server_host_keys=[host_key],
        sftp_factory=Files,
        allow_scp=False,
    )
    place = SftpPlace(files, host_key, server.sockets[0].getsockname()[1])
    try:
        yield place
    finally:
        server.close()


class DropboxPlace:
    """The double."""

    def __init__(self, double: DropboxDouble) -> None:
        self.double = double
        self.settings: dict[str, Any] = {
            "kind": "dropbox",
            "path": "/reports",
            "access_token": ACCESS_TOKEN,
            "api_url": double.url,
        }

    def files(self) -> dict[str, bytes]:
        return {path.removeprefix("/reports/"): body for path, body in self.double.files.items()}

    def leftovers(self) -> list[str]:
        # Unfinished upload sessions are not files; Dropbox expires them.
        return []
