"""Validation of segment names, user ids, command ids and actors."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema

SEGMENT_NAME_MAX_LENGTH = 128
COMMAND_ID_MAX_LENGTH = 128
ACTOR_MAX_LENGTH = 128

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# uuid.UUID also accepts signs, underscores, `0x` and misplaced hyphens, as another user's id.
_UUID_FORMS = re.compile(
    r"(?:urn:uuid:)?(?P<brace>\{)?"
    r"([0-9a-f]{8})(?P<hyphen>-?)([0-9a-f]{4})(?P=hyphen)([0-9a-f]{4})(?P=hyphen)([0-9a-f]{4})"
    r"(?P=hyphen)([0-9a-f]{12})(?(brace)\})",
    re.ASCII | re.IGNORECASE,
)
# Invisible letters and marks, with which two different names would look the same.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@lru_cache(maxsize=65_536)
def check_segment_name(name: str) -> str:
    """Return a valid segment name unchanged; ValueError otherwise.

    1-128 letters and digits of any script, their vowel signs and accents, and `_ . : -`, starting
    with a letter or digit. A name that is not in NFC is rejected rather than normalised, so that
    two spellings are never merged by accident.
    """
    if not 1 <= len(name) <= SEGMENT_NAME_MAX_LENGTH:
        raise ValueError(f"a segment name must have 1-{SEGMENT_NAME_MAX_LENGTH} characters")
    if not _is_letter_or_digit(name[0]):
        raise ValueError("a segment name must start with a letter or digit")
    if not all(_is_letter_or_digit(c) or c in "_.:-" or _is_mark(c) for c in name):
        raise ValueError("a segment name may contain only letters, digits and _ . : -")
    if _INVISIBLE.search(name):
        raise ValueError("a segment name must not contain invisible characters")
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError("a segment name must be in Unicode normal form NFC")
    return name


def _is_letter_or_digit(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "L" or category == "Nd"


def _is_mark(character: str) -> bool:
    # Vowel signs of many scripts are marks; words cannot be written without them.
    return unicodedata.category(character) in ("Mn", "Mc")


def canonical_user_id(value: Any) -> str:
    """The canonical lower-case form of a UUID; ValueError for anything else.

    Upper case, braces, `urn:uuid:` and missing hyphens are accepted.
    """
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str):
        # ValueError, since pydantic does not handle a TypeError of a validator.
        raise ValueError("a user id must be a UUID string")  # noqa: TRY004
    if _CANONICAL_UUID.fullmatch(value):
        return value
    if len(value) > 64:
        raise ValueError("a user id must be a UUID")
    match = _UUID_FORMS.fullmatch(value.strip())
    if match is None:
        raise ValueError("a user id must be a UUID")
    return "-".join(match.group(2, 4, 5, 6, 7)).lower()


def _no_control(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("control characters are not allowed")
    return value


# Patterns for JSON Schemas that Python and JavaScript interpret alike. They are looser than the
# checks above: they cannot tell whether a character of another script is a letter.
_HEX = "[0-9a-fA-F]"
_UUID_PATTERN = "|".join(
    f"{_HEX}{{8}}{hyphen}{_HEX}{{4}}{hyphen}{_HEX}{{4}}{hyphen}{_HEX}{{4}}{hyphen}{_HEX}{{12}}"
    for hyphen in ("-", "")
)
_USER_ID_PATTERN = (
    "^(?:[uU][rR][nN]:[uU][uU][iI][dD]:)?"
    rf"(?:(?:{_UUID_PATTERN})|\{{(?:{_UUID_PATTERN})\}})$"
)
_NEXT = r"[^\x00-\x2c\x2f\x3b-\x40\x5b-\x5e\x60\x7b-\xa0]"
_SEGMENT_NAME_PATTERN = rf"^[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\xa0]{_NEXT}*$"
_NO_CONTROL_PATTERN = r"^[^\x00-\x1f\x7f]+$"

SegmentName = Annotated[
    str,
    AfterValidator(check_segment_name),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": SEGMENT_NAME_MAX_LENGTH,
            "pattern": _SEGMENT_NAME_PATTERN,
            "description": "letters and digits of any script and `_ . : -`, starting with a "
            "letter or digit, in Unicode normal form NFC",
        }
    ),
]
UserId = Annotated[
    str,
    BeforeValidator(canonical_user_id),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": _USER_ID_PATTERN,
            "description": "a UUID; the service writes the canonical lower-case form",
        }
    ),
]
CommandId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=COMMAND_ID_MAX_LENGTH),
    AfterValidator(_no_control),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": COMMAND_ID_MAX_LENGTH,
            "pattern": _NO_CONTROL_PATTERN,
            "description": "unique per intended effect, without control characters",
        }
    ),
]
Actor = Annotated[
    str,
    StringConstraints(min_length=1, max_length=ACTOR_MAX_LENGTH),
    AfterValidator(_no_control),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": ACTOR_MAX_LENGTH,
            "pattern": _NO_CONTROL_PATTERN,
            "description": "who or what sent the command, without control characters",
        }
    ),
]
