"""`segments keys …`: create, list and revoke API keys, in the keys file of this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape

from segments.cli import output
from segments.cli.usage import UsageError
from segments.contracts import times
from segments.contracts.times import duration_to_ms, from_rfc3339, to_rfc3339
from segments.http.auth import api_keys
from segments.settings import Settings

app = typer.Typer(help="API keys for the HTTP interface.", no_args_is_help=True)


class RoleChoice(StrEnum):
    """Roles that a key can have."""

    ADMIN = "admin"
    ANALYST = "analyst"


@app.command()
def create(
    role: Annotated[RoleChoice, typer.Option(help="role of the key")],
    name: Annotated[
        str, typer.Option(help="name of the holder, recorded as the actor of its commands")
    ],
    expires: Annotated[
        str | None, typer.Option(help="time or duration, such as P90D; default never")
    ] = None,
) -> None:
    """Create a key and print it; it cannot be shown again, since only its hash is stored.

    A name may have several keys, so that a key can be replaced before the old one is revoked.
    """
    settings = Settings()
    path = api_keys.path_of(settings)
    now_ms = times.now_ms()
    expires_ms = None if expires is None else _future_ms(expires, now_ms)
    try:
        key, stored = api_keys.create(path, name, role.value, now_ms=now_ms, expires_ms=expires_ms)
    except ValidationError as error:
        raise UsageError(f"--name: {error.errors(include_input=False)[0]['msg']}") from None
    typer.echo(key)
    output.note(f"id {stored.id}; hash stored in {path}; the key cannot be shown again")
    if settings.auth.mode != "keys":
        output.note("keys take effect once auth.mode is keys")


@app.command("list")
def list_all(json: output.JsonOption = False) -> None:  # noqa: FBT002 - an option
    """List the names, roles and ids of the keys, but not the keys."""
    found = api_keys.load(api_keys.path_of(Settings()))
    now_ms = times.now_ms()
    rows = [
        _document(key, now_ms) for key in sorted(found, key=lambda key: (key.name, key.created_ms))
    ]
    if json:
        output.lines(rows)
        return
    output.table(
        ("name", "role", "id", "created", "expires"),
        [
            (escape(row["name"]), row["role"], row["id"], row["created_at"], _format_expiry(row))
            for row in rows
        ],
    )


def _format_expiry(row: dict[str, Any]) -> str:
    return f"{row['expires_at'] or 'never'}{' (expired)' if row['expired'] else ''}"


@app.command()
def revoke(
    name_or_id: Annotated[str, typer.Argument(help="name, for all its keys, or id of one key")],
) -> None:
    """Revoke keys; running sidecars apply it within a second."""
    revoked = api_keys.revoke(api_keys.path_of(Settings()), name_or_id)
    for key in revoked:
        typer.echo(f"revoked {key.id} of {key.name}")


def _document(key: api_keys.Key, now_ms: int) -> dict[str, Any]:
    end_ms = key.expires_ms
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "created_at": to_rfc3339(key.created_ms),
        "expires_at": None if end_ms is None else to_rfc3339(end_ms),
        "expired": end_ms is not None and end_ms <= now_ms,
    }


def _future_ms(text: str, now_ms: int) -> int:
    """Parse a future time, or a duration from now. UsageError if it is invalid or past."""
    try:
        at_ms = now_ms + duration_to_ms(text) if text.startswith("P") else from_rfc3339(text)
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from None
    if at_ms <= now_ms:
        raise UsageError("--expires: the time is in the past")
    return at_ms
