"""Commands read from a file, one per line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

import orjson
from pydantic import ValidationError

from segments.cli.usage import UsageError
from segments.contracts.commands import COMMAND_ADAPTER, COMMAND_TYPES
from segments.contracts.names import check_segment_name

COMMAND_LINE_MAX_BYTES = 1_000_000
_SHOWN_BYTES = 200
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A non-empty line. `command` has an id; if it is None, `reason` is the error."""

    number: int
    text: bytes
    command: dict[str, Any] | None = None
    key: str = ""
    reason: str = ""

    def as_rejected(self, **outcome: Any) -> dict[str, Any]:
        """The line's entry in the file of rejected lines."""
        return {"line": self.number, "text": self.text.decode(errors="replace"), **outcome}


class Lines:
    """Commands of a file with one command, or one user id, per line."""

    def __init__(self, path: Path, *, add: str | None, remove: str | None) -> None:
        if add is not None and remove is not None:
            raise UsageError("give --add or --remove, not both")
        if not path.is_file():
            raise UsageError(f"no such file: {path}")
        self.path = path
        self._change: dict[str, list[str]] | None = None
        for name, segment in (("add", add), ("remove", remove)):
            if segment is not None:
                self._change = {name: [_check_segment(segment, name)]}

    def count(self) -> int:
        """Number of non-empty lines."""
        with self.path.open("rb") as file:
            return sum(1 for _ in _texts(file))

    def commands(self) -> Iterator[Line]:
        """Yield each line with its command, or with the error."""
        with self.path.open("rb") as file:
            for number, text, whole in _texts(file):
                if whole:
                    yield self._line(number, text)
                else:
                    reason = f"a line has at most {COMMAND_LINE_MAX_BYTES} bytes"
                    yield Line(number, text[:_SHOWN_BYTES], reason=reason)

    def _line(self, number: int, text: bytes) -> Line:
        try:
            document = orjson.loads(text) if self._change is None else self._of_user(text)
            command = COMMAND_ADAPTER.validate_python(document)
        except ValidationError as error:
            return Line(number, text, reason=_first_error(error))
        except ValueError as error:
            return Line(number, text, reason=str(error))
        document["id"] = command.id or str(uuid4())
        return Line(number, text, document, command.routing_key(document["id"]))

    def _of_user(self, text: bytes) -> dict[str, Any]:
        assert self._change is not None
        return {"type": "change_memberships", "user_id": text.decode()} | self._change


def _check_segment(segment: str, option: str) -> str:
    try:
        return check_segment_name(segment)
    except ValueError as error:
        raise UsageError(f"--{option}: {error}") from None


def _texts(file: IO[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (number from 1, text, whether it is complete) of each non-empty line.

    A line that is too long is truncated.
    """
    number = 0
    while line := file.readline(COMMAND_LINE_MAX_BYTES + 1):
        number += 1
        whole = line.endswith(b"\n") or len(line) <= COMMAND_LINE_MAX_BYTES
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(COMMAND_LINE_MAX_BYTES)):
            pass
        text = (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()
        if text:
            yield number, text, whole


def _first_error(error: ValidationError) -> str:
    """The first validation error."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # The first step of the location is the command's type, not a field.
    steps = [str(step) for step in found["loc"]]
    where = ".".join(steps[1:] if steps and steps[0] in COMMAND_TYPES else steps)
    return f"{where}: {found['msg']}" if where else str(found["msg"])
