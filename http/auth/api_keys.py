"""API keys: their format, and the file with their hashes.

A key is `segk_`, its id of 12 hexadecimal digits, `_`, and 64 more for 256 random
bits. The file has only the SHA-256 of the key. A slower hash is not needed, since 256 random bits
cannot be guessed.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from segments.contracts.names import Actor
from segments.process import private_files
from segments.settings import Settings

PREFIX = "segk_"
PATTERN = re.compile(rf"{PREFIX}([0-9a-f]{{12}})_([0-9a-f]{{64}})", re.ASCII)
"""Also usable by secret scanners."""
FILE_MAX_BYTES = 4_194_304
_ID_BYTES, _SECRET_BYTES = 6, 32

KeyRole = Literal["admin", "analyst"]
_Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]


class KeysError(RuntimeError):
    """The key file cannot be used, or a key does not exist; the message says which and why."""


class Key(BaseModel):
    """A key as stored. Timestamps in ms; several keys may have one name."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: Annotated[_Hex, StringConstraints(min_length=12, max_length=12)]
    name: Actor
    role: KeyRole
    sha256: Annotated[_Hex, StringConstraints(min_length=64, max_length=64)]
    created_ms: int = Field(ge=0)
    expires_ms: int | None = Field(None, ge=0)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    version: Literal[1] = 1
    keys: list[Key]


def path_of(settings: Settings) -> Path:
    """The key file of these settings."""
    return settings.auth.keys_file or settings.data_dir / "keys.json"


def digest(key: str) -> bytes:
    """The SHA-256 that is stored of a key; any text is accepted."""
    return sha256(key.encode()).digest()


def load(path: Path, *, missing_ok: bool = True) -> list[Key]:
    """The keys in a file. KeysError if it is invalid, or if it is missing and must not be."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        if missing_ok and isinstance(error, FileNotFoundError):
            return []
        raise KeysError(f"{path}: {error.strerror}") from None
    if len(raw) > FILE_MAX_BYTES:
        raise KeysError(f"{path} has more than {FILE_MAX_BYTES} bytes")
    try:
        keys = _File.model_validate(orjson.loads(raw)).keys
    except orjson.JSONDecodeError as error:
        raise KeysError(f"{path} is not JSON: {error}") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise KeysError(f"{path}: {place}: {first['msg']}") from None
    if len({key.id for key in keys}) != len(keys):
        raise KeysError(f"{path} contains an id more than once")
    return keys


def create(
    path: Path, name: str, role: KeyRole, *, now_ms: int, expires_ms: int | None
) -> tuple[str, Key]:
    """Create and store a key: (clear text, stored key). ValidationError for an invalid name."""
    key_id = secrets.token_hex(_ID_BYTES)
    clear = f"{PREFIX}{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    key = Key(
        id=key_id,
        name=name,
        role=role,
        sha256=digest(clear).hex(),
        created_ms=now_ms,
        expires_ms=expires_ms,
    )
    with _locked(path):
        _write(path, [*load(path), key])
    return clear, key


def revoke(path: Path, name_or_id: str) -> list[Key]:
    """Remove and return the keys with this name, or the one with this id. KeysError if none."""
    with _locked(path):
        keys = load(path)
        revoked = [key for key in keys if key.id == name_or_id]
        revoked = revoked or [key for key in keys if key.name == name_or_id]
        if not revoked:
            raise KeysError(f"{path} has no key with the name or id {name_or_id!r}")
        _write(path, [key for key in keys if key not in revoked])
    return revoked


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file: one writer at a time across processes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, keys: list[Key]) -> None:
    body = orjson.dumps(_File(keys=keys).model_dump(), option=orjson.OPT_INDENT_2)
    try:
        private_files.write(path, body + b"\n")
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from None
