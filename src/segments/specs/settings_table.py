"""Markdown tables of all settings, for docs/settings.md."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import annotated_types
import orjson
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from segments.settings import ENV_PREFIX, Settings

_HEADINGS = ("setting", "environment variable", "default", "meaning")


def tables() -> str:
    """A table of the settings without a section, then one for each section."""
    sections = {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel)
    }
    plain = {name: field for name, field in Settings.model_fields.items() if name not in sections}
    parts = [_table("", plain)]
    for name, section in sections.items():
        about = inspect.cleandoc(section.__doc__ or "")
        parts.append(f"## {name}\n\n{about}\n\n{_table(f'{name}.', section.model_fields)}")
        for inner, field in section.model_fields.items():
            parts += [
                _variant_table(f"{name}.{inner}", model) for model in _models(field.annotation)
            ]
    return "\n".join(parts)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models of the values of a setting that maps names to a union of models."""
    if get_origin(annotation) is not dict:
        return []
    union, *_ = get_args(get_args(annotation)[1]) or (None,)
    return [each for each in _kinds(union) if inspect.isclass(each) and issubclass(each, BaseModel)]


def _variant_table(name: str, model: type[BaseModel]) -> str:
    """The table of the fields of such a model."""
    [kind] = get_args(model.model_fields["kind"].annotation)
    about = inspect.cleandoc(model.__doc__ or "")
    rows = []
    for field_name, field in model.model_fields.items():
        if field_name != "kind":
            meaning = "; ".join(filter(None, [field.description, _allowed(field)]))
            default = "required" if field.is_required() else _default(field)
            rows.append((f"`{field_name}`", default, meaning))
    headings = ("field", "default", "meaning")
    lines = [headings, tuple("---" for _ in headings), *rows]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return f"### {name} of the kind {kind}\n\n{about}\n\n{table}"


def _table(prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = [_row(prefix + name, field) for name, field in fields.items()]
    lines = [_HEADINGS, tuple("---" for _ in _HEADINGS), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    variable = ENV_PREFIX + name.upper().replace(".", "__")
    meaning = "; ".join(filter(None, [field.description, _allowed(field)]))
    return f"`{name}`", f"`{variable}`", _default(field), meaning


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    if isinstance(value, (str, Path)):
        return f"`{value}`" if str(value) else "empty"
    return f"`{orjson.dumps(value).decode()}`"


def _allowed(field: FieldInfo) -> str:
    """The allowed values or range of a field; empty if unconstrained."""
    words = [get_args(kind) for kind in _kinds(field.annotation) if get_origin(kind) is Literal]
    if words:
        return "one of " + ", ".join(f"`{word}`" for word in words[0])
    bounds = []
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            bounds.append(f"at least {bound.ge}")
        elif isinstance(bound, annotated_types.Gt):
            bounds.append(f"more than {bound.gt}")
        elif isinstance(bound, annotated_types.Le):
            bounds.append(f"at most {bound.le}")
    return ", ".join(bounds)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
