"""JSON Schemas (2020-12) of every message type, generated from the models of `segments.contracts`.

One file per type and part: `segments.commands/create_segment.json` describes the value,
`segments.commands/create_segment.headers.json` the headers. Binary values have no schema.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from segments.contracts.messages import MESSAGE_TYPES, MessageType

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Generator(GenerateJsonSchema):
    """Pydantic's generator without titles that merely repeat field names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - its signature
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> dict[str, Any]:
        """A plain `oneOf`: `discriminator` is specific to OpenAPI."""
        converted = super().tagged_union_schema(schema)
        converted.pop("discriminator", None)
        return converted


MODE: JsonSchemaMode = "validation"


def of_model(model: type[BaseModel]) -> dict[str, Any]:
    """The self-contained schema of a model."""
    schema = model.model_json_schema(mode=MODE, schema_generator=Generator)
    return {"$schema": DIALECT, **schema}


def files() -> dict[str, dict[str, Any]]:
    """File name -> schema, with `/` between folder and file."""
    found: dict[str, dict[str, Any]] = {}
    for message_type in MESSAGE_TYPES:
        for name, model in (
            (file_of(message_type), message_type.value),
            (headers_file_of(message_type), message_type.headers),
        ):
            if model is not None:
                found[name] = of_model(model)
    return found


def file_of(message_type: MessageType) -> str:
    """The file with the schema of a message type's value."""
    return f"{message_type.topic}/{message_type.name}.json"


def headers_file_of(message_type: MessageType) -> str:
    """The file with the schema of a message type's headers."""
    return f"{message_type.topic}/{message_type.name}.headers.json"


def text(document: Any) -> str:
    """A document as the text of its file."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write every schema below a folder and return the files; other files are not touched."""
    written = []
    for name, schema in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(schema), encoding="utf-8")
        written.append(path)
    return written
