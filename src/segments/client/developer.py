"""Calls that change the user replica (only with `dev.enabled`), and the health check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal
from uuid import UUID

import orjson

from segments.client import errors, inputs, reads
from segments.client.call import Core, document, model, parsed, path
from segments.client.models import Health, Imported, UserState
from segments.client.sansio import Pause, RequestBody, Steps

_CHUNK_BYTES = 262_144
_POLL_S = 0.05
_CSV, _NDJSON = "text/csv", "application/x-ndjson"
TYPES = {".csv": _CSV, ".ndjson": _NDJSON, ".jsonl": _NDJSON}
"""Content type by file extension; `.gz` may follow."""

SettableState = Literal["active", "blocked", "deleted"]
Users = Path | Mapping[str, SettableState] | Iterable[tuple[str, SettableState]]


def user_state(
    core: Core,
    user_id: str | UUID,
    *,
    min_position: str | None = None,
    timeout_s: float | None = None,
) -> Steps[UserState]:
    """State of a user in the replica. NotFoundError `user_unknown`."""
    target = path("dev", "users", inputs.user(user_id))
    reply = yield from reads.read(core, target, min_position=min_position, timeout_s=timeout_s)
    return parsed(UserState, reply)


def set_user_state(
    core: Core, user_id: str | UUID, state: SettableState, *, timeout_s: float | None = None
) -> Steps[UserState]:
    """Add a user or change its state; returns once the replica shows it.

    PendingError if it does not in time; the state is accepted nevertheless.
    """
    return (yield from _set(core, "PUT", inputs.user(user_id), state, timeout_s))


def delete_user(
    core: Core, user_id: str | UUID, *, timeout_s: float | None = None
) -> Steps[UserState]:
    """Delete a user and thereby its memberships. Otherwise like `set_user_state`."""
    return (yield from _set(core, "DELETE", inputs.user(user_id), "deleted", timeout_s))


def _set(
    core: Core, method: str, user_id: str, state: str, timeout_s: float | None
) -> Steps[UserState]:
    call = core.call(timeout_s)
    target = path("dev", "users", user_id)
    body = {"state": state} if method == "PUT" else None
    reply = yield from call.send(method, target, json=body, waits=True)
    visible = reply.status == 200
    while not visible:
        if call.left_s <= _POLL_S:
            raise errors.PendingError("", f"the state of {user_id} is accepted but not visible yet")
        yield Pause(_POLL_S)
        reply = yield from call.send("GET", target, accepted=frozenset({404}))
        visible = reply.status == 200 and document(reply).get("state") == state
    updated = parsed(UserState, reply)
    core.note(updated.position)
    return updated


def import_users(
    core: Core,
    users: Users,
    *,
    progress: Callable[[int], None] | None = None,
    timeout_s: float | None = None,
) -> Steps[Imported]:
    """Import users from an NDJSON or CSV file (optionally `.gz`), or from pairs of id and state.

    Each line is accepted or rejected on its own. Imports are idempotent: repeat one that failed.
    `progress` is called with the size of each chunk sent. No retry starts after `timeout_s`.
    """
    headers: dict[str, str]
    body: RequestBody
    if isinstance(users, Path):
        headers, body = file_headers(users), _file(users, progress)
    else:
        headers, body = {"Content-Type": _NDJSON}, _lines(users)
    reply = yield from core.call(timeout_s).send(
        "POST", "/dev/users/import", body=body, headers=headers
    )
    return parsed(Imported, reply)


def file_headers(file: Path) -> dict[str, str]:
    """Content headers of a file by its extension. InvalidError for an unknown one."""
    compressed = file.suffix.lower() == ".gz"
    suffix = (Path(file.stem).suffix if compressed else file.suffix).lower()
    if suffix not in TYPES:
        raise errors.invalid(f"the file extension must be {', '.join(TYPES)}, optionally with .gz")
    return {"Content-Type": TYPES[suffix]} | ({"Content-Encoding": "gzip"} if compressed else {})


def _file(file: Path, progress: Callable[[int], None] | None) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                yield chunk
                if progress is not None:
                    progress(len(chunk))

    return chunks


def _lines(users: Mapping[str, SettableState] | Iterable[tuple[str, SettableState]]) -> bytes:
    pairs = users.items() if isinstance(users, Mapping) else users
    return b"".join(
        orjson.dumps({"user_id": user_id, "state": state}) + b"\n" for user_id, state in pairs
    )


def health(core: Core, *, timeout_s: float | None = None) -> Steps[Health]:
    """Readiness of the sidecar with its failed checks; not being ready is not an error."""
    reply = yield from core.call(timeout_s).send(
        "GET", "/readyz?verbose", accepted=frozenset({503})
    )
    body = document(reply)
    return model(Health, body | {"ready": body.get("status") == "ready"})
