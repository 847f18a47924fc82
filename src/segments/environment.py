"""Settings as environment variables: how a process hands its own settings to its children."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from segments.settings import ENV_PREFIX, Settings


def variables(settings: Settings) -> dict[str, str]:
    """`SEGMENTS_…` variables from which a child reads equal settings. Secrets stand in clear."""
    return dict(_flatten(settings, ENV_PREFIX))


def child_environment(settings: Settings) -> dict[str, str]:
    """This process's environment, with its settings replaced by the given ones."""
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith(ENV_PREFIX)}
    return inherited | variables(settings)


def _flatten(section: BaseModel, prefix: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        variable = prefix + name.upper()
        if isinstance(value, BaseModel):
            pairs += _flatten(value, variable + "__")
        elif value is not None:
            pairs.append((variable, _text(value)))
    return pairs


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, (str, Path)):
        return str(value)
    return json.dumps(value)
