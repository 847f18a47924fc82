"""Settings as environment variables, to pass them on to child processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from segments.settings import ENV_PREFIX, Settings
from segments.settings.redaction import HIDDEN


def variables(settings: Settings) -> dict[str, str]:
    """`SEGMENTS_…` variables that yield equal settings. Secrets are in plaintext."""
    return _flatten(settings, ENV_PREFIX, SecretStr.get_secret_value)


def without_secrets(settings: Settings) -> dict[str, str]:
    """The same variables with every secret redacted."""
    return _flatten(settings, ENV_PREFIX, lambda _: HIDDEN)


def child_environment(settings: Settings) -> dict[str, str]:
    """This process's environment with its settings replaced by `settings`."""
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith(ENV_PREFIX)}
    return inherited | variables(settings)


def _flatten(section: BaseModel, prefix: str, secret: Callable[[SecretStr], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        variable = prefix + name.upper()
        if isinstance(value, BaseModel):
            found |= _flatten(value, variable + "__", secret)
        elif value is not None:
            plain = _plain(value, secret)
            found[variable] = plain if isinstance(plain, str) else json.dumps(plain)
    return found


def _plain(value: Any, secret: Callable[[SecretStr], str]) -> Any:
    """The value of a setting as JSON data."""
    if isinstance(value, SecretStr):
        return secret(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        # Only the fields that were set: defaults may conflict with them in validation.
        value = {name: getattr(value, name) for name in value.model_fields_set}
    if isinstance(value, dict):
        return {key: _plain(each, secret) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, secret) for each in value]
    return value
