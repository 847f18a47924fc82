"""Validation of segment names, user ids and command ids."""

from __future__ import annotations

import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from segments.contracts.names import Actor, CommandId, canonical_user_id, check_segment_name

USER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
BARE = USER.replace("-", "")


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "7",
        "VIP",
        "a.b:c-d_e",
        "x" * 128,
        "Überall",
        "сегмент",
        "セグメント",
        "हिन्दी",
        "١٢٣",
        "a-",
        "é",
    ],
)
def test_valid_segment_name_is_returned_unchanged(name: str) -> None:
    assert check_segment_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 129,
        "../x",
        "a/b",
        "a\\b",
        "a;b",
        "a,b",
        'a"b',
        "a b",
        " a",
        "a\n",
        "a\nb",
        "a\r",
        "a\tb",
        "a\x00",
        "=a",
        "+a",
        "-a",
        "@a",
        "_a",
        ".a",
        ":a",
        "!progress",
        "\N{GRINNING FACE}",
        "a\N{GRINNING FACE}",
        "1\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}",
        "e\N{COMBINING ACUTE ACCENT}",
        "\N{COMBINING ACUTE ACCENT}a",
        "\N{KELVIN SIGN}",
        "a\N{ZERO WIDTH SPACE}",
        "a\N{ZERO WIDTH JOINER}b",
        "a\N{RIGHT-TO-LEFT OVERRIDE}b",
        "a\N{VARIATION SELECTOR-16}",
        "a\N{COMBINING GRAPHEME JOINER}",
        "\N{HANGUL FILLER}",
        "a\N{NO-BREAK SPACE}",
        "½",
        "a\ud800",
    ],
)
def test_invalid_segment_names_are_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="a segment name"):
        check_segment_name(name)


@given(st.text(max_size=140))
def test_accepted_names_need_no_escaping(name: str) -> None:
    try:
        check_segment_name(name)
    except ValueError:
        return
    assert 1 <= len(name) <= 128
    assert name[0].isalnum()
    assert name.isprintable()
    assert not set(name) & set(";,\"'/\\=+@ \t\r\n\0")
    assert unicodedata.normalize("NFC", name) == name


@pytest.mark.parametrize(
    "form",
    [
        USER,
        USER.upper(),
        BARE,
        BARE.upper(),
        f"{{{USER}}}",
        f"urn:uuid:{USER}",
        f"URN:UUID:{USER.upper()}",
        f" {USER}\n",
        uuid.UUID(USER),
    ],
)
def test_all_uuid_formats_have_the_same_canonical_form(form: object) -> None:
    assert canonical_user_id(form) == USER


@pytest.mark.parametrize(
    "form",
    [
        "",
        "x",
        USER[:-1],
        USER + "0",
        USER.replace("3f", "3g"),
        f"{{{USER}",
        f"{USER}}}",
        f"uuid:{USER}",
        "+" + BARE[1:],
        "-" + BARE[1:],
        "0x" + BARE[2:],
        BARE[:15] + "_" + BARE[16:],
        BARE[:4] + "-" + BARE[4:],
        USER.replace("-", "", 1),
        USER.replace("3", "\N{FULLWIDTH DIGIT THREE}"),
        USER + "\x00",
        " " * 65 + USER,
        5,
        None,
        True,
        [USER],
        {"user_id": USER},
        USER.encode(),
    ],
)
def test_invalid_user_ids_are_rejected(form: object) -> None:
    with pytest.raises(ValueError, match="a user id must be a UUID"):
        canonical_user_id(form)


@given(st.uuids())
def test_uuid_of_any_version_is_accepted(user: uuid.UUID) -> None:
    assert canonical_user_id(str(user).upper()) == str(user)


@pytest.mark.parametrize("contract", [CommandId, Actor])
@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("x", True),
        ("x" * 128, True),
        ("id with spaces: ü \N{GRINNING FACE}", True),
        ("", False),
        ("x" * 129, False),
        ("a\x00", False),
        ("a\nb", False),
        ("a\x7f", False),
        ("\ud800", False),
        (5, False),
        (True, False),
        ([], False),
    ],
)
def test_ids_and_actors_are_short_printable_text(
    contract: object, value: object, valid: bool
) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(contract)
    if valid:
        assert adapter.validate_python(value) == value
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
