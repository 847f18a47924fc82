"""The published schemas as a reader of the topics uses them: from docs/schemas, with jsonschema."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from segments.contracts.messages import MessageType, message_types_of
from segments.specs import json_schemas
from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "schemas"


@cache
def validator(file: str) -> Draft202012Validator:
    """The validator of a published schema, by its path in docs/schemas."""
    return Draft202012Validator(json.loads((FOLDER / file).read_text(encoding="utf-8")))


def fits(
    kind: MessageType, value: bytes | None, headers: dict[str, bytes], key: bytes | None
) -> bool:
    """Whether a record is of this kind, by key, headers and value."""
    text = None if key is None else key.decode("utf-8", "backslashreplace")
    if kind.key is not None and not Draft202012Validator(kind.key).is_valid(text):
        return False
    if kind.headers is not None:
        named = {name: raw.decode("utf-8", "backslashreplace") for name, raw in headers.items()}
        if not validator(json_schemas.headers_file_of(kind)).is_valid(named):
            return False
    return kind.value is None or _holds(json_schemas.file_of(kind), value)


def _holds(file: str, value: bytes | None) -> bool:
    try:
        decoded = json.loads(value or b"")
    except ValueError:
        return False
    return validator(file).is_valid(decoded)


def kinds_that_fit(
    topic: str, value: bytes | None, headers: dict[str, bytes], key: bytes | None
) -> list[str]:
    """The kinds of message of the topic that a record is of: exactly one, if all is well."""
    return [kind.name for kind in message_types_of(topic) if fits(kind, value, headers, key)]


def complaints(topic: str, value: Any) -> list[str]:
    """What each kind of the topic finds wrong with a value, for the reader of a failure."""
    return [
        f"{kind.name}: {error.json_path}: {error.message[:200]}"
        for kind in message_types_of(topic)
        if kind.value is not None
        for error in validator(json_schemas.file_of(kind)).iter_errors(value)
    ]
