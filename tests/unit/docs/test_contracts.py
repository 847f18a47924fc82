"""The example messages of the documents match the models."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from segments.contracts import documents, events
from segments.contracts.commands import COMMAND_ADAPTER
from segments.kafka import topics
from tests.support.docs import reading

EXAMPLES = [
    (block.info.split()[1], block.text)
    for block in reading.blocks(reading.read("docs/topics.md"))
    if block.info.startswith("json ")
]
# Without a model of their own.
WITHOUT_EXAMPLE = {"bytes", "LogRecord", "Command"}


@pytest.mark.parametrize(("model", "text"), EXAMPLES)
def test_an_example_is_one(model: str, text: str) -> None:
    example = json.loads(text)
    if model == "Command":
        assert (
            COMMAND_ADAPTER.validate_python(example).model_dump(exclude_unset=True).keys()
            == example.keys()
        )
        return
    found: type[BaseModel] = getattr(documents, model, None) or getattr(events, model)
    kept = found.model_validate(example).model_dump(mode="json", exclude_unset=True)
    ignored = found.model_config.get("extra") == "ignore"
    assert kept == ({key: example[key] for key in kept} if ignored else example)


def test_every_schema_has_an_example() -> None:
    shown = {model for model, _ in EXAMPLES}
    assert {topic.value for topic in topics.load()} - {"bytes", "LogRecord"} <= shown
