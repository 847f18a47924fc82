"""Validation against the schemas in docs/schemas, as consumers of the topics do it."""

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


def matches(
    message: MessageType, value: bytes | None, headers: dict[str, bytes], key: bytes | None
) -> bool:
    """Whether the key, headers and value of a record match a message type."""
    text = None if key is None else key.decode("utf-8", "backslashreplace")
    if message.key is not None and not Draft202012Validator(message.key).is_valid(text):
        return False
    if message.headers is not None:
        texts = {name: raw.decode("utf-8", "backslashreplace") for name, raw in headers.items()}
        if not validator(json_schemas.headers_file_of(message)).is_valid(texts):
            return False
    return message.value is None or _is_valid(json_schemas.file_of(message), value)


def _is_valid(file: str, value: bytes | None) -> bool:
    try:
        decoded = json.loads(value or b"")
    except ValueError:
        return False
    return validator(file).is_valid(decoded)


def matching_types(
    topic: str, value: bytes | None, headers: dict[str, bytes], key: bytes | None
) -> list[str]:
    """Names of the message types of the topic that a record matches; normally exactly one."""
    return [
        message.name for message in message_types_of(topic) if matches(message, value, headers, key)
    ]


def validation_errors(topic: str, value: Any) -> list[str]:
    """Errors of a value by each message type of the topic, for assertion messages."""
    return [
        f"{message.name}: {error.json_path}: {error.message[:200]}"
        for message in message_types_of(topic)
        if message.value is not None
        for error in validator(json_schemas.file_of(message)).iter_errors(value)
    ]
