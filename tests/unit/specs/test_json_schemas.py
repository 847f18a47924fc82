"""The published schemas are current and accept exactly what the models accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from typer.testing import CliRunner

from segments.cli import app
from segments.contracts.commands import COMMAND_ADAPTER, COMMAND_TYPES
from segments.contracts.examples import EXAMPLES, Example
from segments.contracts.messages import MESSAGE_TYPES, message_types_of
from segments.kafka import topics
from segments.specs import json_schemas
from tests.support import published_schemas
from tests.support.docs import generated
from tests.support.paths import ROOT

USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
OPAQUE = {("segments.dlq", "dead_letter"), ("changelog__{group:shards}--shards--default", "row")}
FILES = json_schemas.files()
PUBLISHED = generated.published()
EACH_EXAMPLE = [
    pytest.param(topic, name, example, id=f"{topic}-{name}-{number}")
    for (topic, name), examples in EXAMPLES.items()
    for number, example in enumerate(examples)
]


@pytest.mark.parametrize("file", PUBLISHED)
def test_a_published_file_is_current(file: str) -> None:
    found = (ROOT / file).read_text(encoding="utf-8")
    assert found == PUBLISHED[file], "run: python -m tests.support.docs.generated"


def test_no_other_schemas_are_published() -> None:
    found = {
        str(path.relative_to(published_schemas.FOLDER))
        for path in published_schemas.FOLDER.rglob("*.json")
    }
    assert found == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_schemas_are_valid_2020_12_and_self_contained(file: str) -> None:
    schema = FILES[file]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for reference in _references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [found for item in schema for found in _references(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return own + [found for value in schema.values() for found in _references(value)]


def test_every_topic_has_message_types_with_examples() -> None:
    assert {message.topic for message in MESSAGE_TYPES} == {topic.name for topic in topics.load()}
    names = {(message.topic, message.name) for message in MESSAGE_TYPES}
    assert len(names) == len(MESSAGE_TYPES)
    assert names - OPAQUE <= set(EXAMPLES) <= names


def test_message_writers_are_writers_of_the_topic() -> None:
    writers = {topic.name: set(topic.writers) for topic in topics.load()}
    assert [
        message
        for message in MESSAGE_TYPES
        if not set(message.writers or ()) <= writers[message.topic]
    ] == []


@pytest.mark.parametrize(("topic", "name", "example"), EACH_EXAMPLE)
def test_example_matches_exactly_its_message_type(topic: str, name: str, example: Example) -> None:
    payload = _bytes(example.payload)
    headers = {header: text.encode() for header, text in (example.headers or {}).items()}
    matching = published_schemas.matching_types(topic, payload, headers, _key(topic, name))
    assert matching == [name], published_schemas.validation_errors(topic, example.payload)


def _bytes(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def _key(topic: str, name: str) -> bytes | None:
    [message] = [each for each in message_types_of(topic) if each.name == name]
    if message.key is None or message.key == {"type": "null"}:
        return None
    return b"!progress/3" if name == "progress" else USER.encode()


@pytest.mark.parametrize(("topic", "name", "example"), EACH_EXAMPLE)
def test_example_validates_against_its_model(topic: str, name: str, example: Example) -> None:
    [message] = [each for each in message_types_of(topic) if each.name == name]
    if message.value is not None:
        message.value.model_validate(example.payload)
    if message.headers is not None and example.headers is not None:
        message.headers.model_validate(example.headers)


def change(**fields: Any) -> dict[str, Any]:
    return {"type": "change_memberships", "user_id": USER, "add": ["a"]} | fields


def create(**fields: Any) -> dict[str, Any]:
    return {"type": "create_segment", "segment": "a"} | fields


VALID = [
    change(),
    change(add=[{"segment": "a", "ttl": "P1Y2M3W4DT5H6M7.089S"}]),
    change(add=[{"segment": "a", "ttl": 0.001, "expires_at": None}]),
    change(add=[{"segment": "a", "expires_at": "2027-01-01T00:00:00.123456789+01:00"}]),
    change(add=[], remove=["b"]),
    change(remove=["ÄÖ.ü_:-1", "имя", "名前", "नमस्ते"]),
    change(id=None, actor=None),
    change(id="x" * 128, actor="y" * 128),
    change(user_id=USER.upper()),
    change(user_id=f"urn:uuid:{USER}"),
    change(user_id=f"{{{USER}}}"),
    change(user_id=USER.replace("-", "")),
    change(add=[f"s{number}" for number in range(100)]),
    create(),
    create(description=None),
    create(auto={"percent": 0.0001}),
    create(auto={"percent": 100, "count": None, "ttl": None}),
    create(auto={"count": 1, "accounts": ["blocked", "unknown"], "newcomers": True}),
    {"type": "update_segment", "segment": "a", "description": None},
    {"type": "delete_segment", "segment": "a"},
    {"type": "preview_segment", "auto": {"count": 1_000_000_000}},
]
INVALID = [
    [],
    {},
    {"type": "create"},
    change(colour="red"),
    change(user_id="5"),
    change(user_id=USER + "0"),
    change(user_id="{" + USER),
    change(user_id=USER[:-1] + "g"),
    change(add=[]),
    change(add="a"),
    change(add=[{"segment": "a", "until": 5}]),
    change(add=[{"ttl": 5}]),
    change(add=[{"segment": "a", "ttl": 5, "expires_at": "2027-01-01T00:00:00Z"}]),
    change(add=[{"segment": "a", "ttl": 0}]),
    change(add=[{"segment": "a", "ttl": "7D"}]),
    change(add=[{"segment": "a", "ttl": "P"}]),
    change(add=[{"segment": "a", "ttl": "PT"}]),
    change(add=[{"segment": "a", "ttl": True}]),
    change(add=[{"segment": "a", "ttl": 3_155_760_001}]),
    change(add=[{"segment": "a", "expires_at": "2027-01-01"}]),
    change(add=[{"segment": "a", "expires_at": "2027-01-01T00:00:00"}]),
    change(add=[{"segment": "a", "expires_at": 5}]),
    change(add=[f"s{number}" for number in range(101)]),
    change(remove=[""]),
    change(remove=["-a"]),
    change(remove=["a b"]),
    change(remove=["a/b"]),
    change(remove=["a" * 129]),
    change(id=""),
    change(id="x" * 129),
    change(id="a\nb"),
    change(actor="\x00"),
    create(auto=None),
    create(auto={}),
    create(auto={"percent": 5, "count": 5}),
    create(auto={"percent": 0}),
    create(auto={"percent": 100.1}),
    create(auto={"percent": "5"}),
    create(auto={"count": 0}),
    create(auto={"count": 1.5}),
    create(auto={"count": 1, "accounts": []}),
    create(auto={"count": 1, "accounts": ["deleted"]}),
    create(auto={"count": 1, "include": [f"s{number}" for number in range(101)]}),
    create(description=5),
    create(description="x" * 4097),
    {"type": "delete_segment"},
    {"type": "preview_segment"},
]


def _matching(command: Any) -> list[str]:
    return published_schemas.matching_types("segments.commands", _bytes(command), {}, None)


@pytest.mark.parametrize("command", VALID)
def test_schemas_accept_what_the_models_accept(command: dict[str, Any]) -> None:
    assert isinstance(COMMAND_ADAPTER.validate_python(command), COMMAND_TYPES[command["type"]])
    errors = published_schemas.validation_errors("segments.commands", command)
    assert _matching(command) == [command["type"]], errors


@pytest.mark.parametrize("command", INVALID)
def test_schemas_reject_what_the_models_reject(command: Any) -> None:
    with pytest.raises(ValidationError):
        COMMAND_ADAPTER.validate_python(command)
    assert _matching(command) == []


def test_cli_writes_the_published_schemas(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["topics", "schemas", "-o", str(tmp_path / "schemas")])
    assert result.exit_code == 0, result.output
    assert f"{len(FILES)} schemas" in result.output
    for file in FILES:
        written = (tmp_path / "schemas" / file).read_bytes()
        assert written == (published_schemas.FOLDER / file).read_bytes()
