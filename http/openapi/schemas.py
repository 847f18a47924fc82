"""JSON schemas for the OpenAPI document: of models, path parameters and query parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from segments.contracts.names import SegmentName
from segments.http.routing.operation import ProblemType
from segments.http.routing.query import Query

COMPONENTS = "#/components/schemas/"
AUTH_PROBLEMS: tuple[ProblemType, ...] = (
    (401, "credentials_missing"),
    (401, "credentials_invalid"),
    (403, "role_needed"),
    (429, "rate_limited"),
    (503, "keys_unavailable"),
)
"""Problems of every operation that needs a role."""

_PARAMETER = re.compile(r"\{(\w+)\}")
_PATH: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "user_id": (
        # Other formats of UUIDs are accepted too.
        {"type": "string", "format": "uuid"},
        "The user: a UUID.",
        "cd613e30-d8f1-4adf-91b7-584a2265b1f5",
    ),
    "segment": (TypeAdapter(SegmentName).json_schema(), "The name of a segment.", "newsletter"),
    "month": (
        {
            "type": "string",
            "pattern": r"^(19[7-9]\d|[2-8]\d{3}|9[0-8]\d{2}|99[0-8]\d|999[0-8])"
            r"-(0[1-9]|1[0-2])$",
        },
        "`YYYY-MM`, from 1970-01 to 9998-12.",
        "2026-11",
    ),
    "command_id": (
        {"type": "string", "minLength": 1},
        "The id of a command.",
        "order-4711",
    ),
    "job_id": (
        {"type": "string", "minLength": 1},
        "The id of a job.",
        "0d9f0a6e-6a0b-4c1e-8a6e-3f1f2b7f5a10",
    ),
    "file": ({"type": "string", "minLength": 1}, "The name of a file.", "swagger-ui.css"),
}
"""Path parameter -> (schema, description, example)."""


class _Untitled(GenerateJsonSchema):
    """Without titles of fields, which only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


class Schemas:
    """The schemas of all bodies, with shared definitions in `components`."""

    def __init__(self, bodies: Iterable[Any]) -> None:
        self._keys = {str(body): body for body in bodies}
        schemas, definitions = TypeAdapter.json_schemas(
            [(key, "validation", TypeAdapter(body)) for key, body in self._keys.items()],
            ref_template=COMPONENTS + "{model}",
            schema_generator=_Untitled,
        )
        self._schemas = {key: schema for (key, _), schema in schemas.items()}
        self.components: dict[str, Any] = dict(sorted(definitions.get("$defs", {}).items()))

    def of(self, body: Any) -> dict[str, Any]:
        """The schema of a body, usually a reference."""
        return self._schemas[str(body)]


def text_schema(description: str) -> dict[str, Any]:
    """The schema of a text body."""
    return {"type": "string", "description": description}


def parameters_of_path(path: str) -> list[dict[str, Any]]:
    """The parameters of a path. KeyError if one is not described."""
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH[name][1],
            "schema": _PATH[name][0],
            "example": _PATH[name][2],
        }
        for name in _PARAMETER.findall(path)
    ]


def parameters_of_query(query: type[Query] | None) -> list[dict[str, Any]]:
    """The parameters of a query, from its model."""
    if query is None or not query.model_fields:
        return []
    schemas = query.model_json_schema(schema_generator=_Untitled)
    parameters = []
    for name, field in schemas["properties"].items():
        schema = _without_null(field)
        parameter = {"name": name, "in": "query", "schema": schema}
        if description := schema.pop("description", None):
            parameter["description"] = description
        parameters.append(parameter)
    return parameters


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """A missing parameter is absent, never null."""
    alternatives = [
        alternative for alternative in field.get("anyOf", []) if alternative != {"type": "null"}
    ]
    schema = {name: value for name, value in field.items() if name != "anyOf"}
    if len(alternatives) == 1:
        schema = alternatives[0] | schema
    elif alternatives:
        schema["anyOf"] = alternatives
    if schema.get("default", ...) is None:
        del schema["default"]
    return schema
