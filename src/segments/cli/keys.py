"""`segments keys …`: API keys for the HTTP interface, made, listed and revoked on this machine."""

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


class Role(StrEnum):
    """What the holder of a key may do."""

    ADMIN = "admin"
    ANALYST = "analyst"


@app.command()
def create(
    role: Annotated[Role, typer.Option(help="what its holder may do")],
    name: Annotated[str, typer.Option(help="of its holder: the actor of what is done with it")],
    expires: Annotated[
        str | None, typer.Option(help="an instant or a duration, such as P90D; none = never")
    ] = None,
) -> None:
    """Make a key and print it, once: only its hash is kept.

    A name may have several keys, so that a new one can be handed out before the old one is revoked.
    """
    settings = Settings()
    path = api_keys.path_of(settings)
    now_ms = times.now_ms()
    expires_ms = None if expires is None else _instant_ms(expires, now_ms)
    try:
        clear, made = api_keys.create(path, name, role.value, now_ms=now_ms, expires_ms=expires_ms)
    except ValidationError as error:
        raise UsageError(f"--name: {error.errors(include_input=False)[0]['msg']}") from None
    typer.echo(clear)
    output.note(f"id {made.id}, kept hashed in {path}; the key is not shown again")
    if settings.auth.mode != "keys":
        output.note("no sidecar asks for keys before auth.mode is keys")


@app.command("list")
def list_all(json: output.JsonOption = False) -> None:  # noqa: FBT002 - an option
    """Show whose keys there are; never the keys."""
    found = api_keys.load(api_keys.path_of(Settings()))
    now_ms = times.now_ms()
    rows = [
        _shown(key, now_ms) for key in sorted(found, key=lambda key: (key.name, key.created_ms))
    ]
    if json:
        output.lines(rows)
        return
    output.table(
        ("name", "role", "id", "created", "expires"),
        [
            (escape(row["name"]), row["role"], row["id"], row["created_at"], _end(row))
            for row in rows
        ],
    )


def _end(row: dict[str, Any]) -> str:
    return f"{row['expires_at'] or 'never'}{' (expired)' if row['expired'] else ''}"


@app.command()
def revoke(
    name_or_id: Annotated[str, typer.Argument(help="all keys of a name, or the one of an id")],
) -> None:
    """Make keys useless; running sidecars know within a second."""
    gone = api_keys.revoke(api_keys.path_of(Settings()), name_or_id)
    for key in gone:
        typer.echo(f"revoked {key.id} of {key.name}")


def _shown(key: api_keys.Key, now_ms: int) -> dict[str, Any]:
    end_ms = key.expires_ms
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "created_at": to_rfc3339(key.created_ms),
        "expires_at": None if end_ms is None else to_rfc3339(end_ms),
        "expired": end_ms is not None and end_ms <= now_ms,
    }


def _instant_ms(text: str, now_ms: int) -> int:
    """An instant of the future, given as it is or by what is left until then."""
    try:
        at_ms = now_ms + duration_to_ms(text) if text.startswith("P") else from_rfc3339(text)
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from None
    if at_ms <= now_ms:
        raise UsageError("--expires: this instant has passed")
    return at_ms
