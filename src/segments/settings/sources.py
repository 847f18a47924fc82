"""A settings source that reads values from files, meant for secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_settings import PydanticBaseSettingsSource

ENV_PREFIX = "SEGMENTS_"
CONFIG_FILE_VARIABLE = "SEGMENTS_CONFIG_FILE"
CLIENT_VARIABLES = frozenset({"SEGMENTS_URL", "SEGMENTS_TOKEN", "SEGMENTS_TOKEN_FILE"})
"""Variables of commands that are clients of a running service."""
NOT_SETTINGS = CLIENT_VARIABLES | {CONFIG_FILE_VARIABLE}
_FILE_SUFFIX = "_FILE"


def names_a_file(variable: str, settings_cls: type[BaseModel]) -> bool:
    """Whether an environment variable is the path of a setting's file, not a setting itself."""
    upper = variable.upper()
    if not (upper.startswith(ENV_PREFIX) and upper.endswith(_FILE_SUFFIX)):
        return False
    return not _is_setting(upper[len(ENV_PREFIX) :].lower().split("__"), settings_cls)


def _is_setting(path: list[str], model: Any) -> bool:
    """Whether a setting has exactly this name, such as `auth.keys_file`."""
    for step in path:
        field = getattr(model, "model_fields", {}).get(step)
        if field is None:
            return False
        model = field.annotation
    return True


class SecretFilesSource(PydanticBaseSettingsSource):
    """Reads `SEGMENTS_A__B_FILE=/path` as the value of `SEGMENTS_A__B`."""

    def get_field_value(
        self,
        field: Any,  # noqa: ARG002 - pydantic's signature
        field_name: str,
    ) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for variable, path in os.environ.items():
            if not names_a_file(variable, self.settings_cls) or variable in NOT_SETTINGS:
                continue
            keys = variable[len(ENV_PREFIX) : -len(_FILE_SUFFIX)].lower().split("__")
            node = tree
            for key in keys[:-1]:
                node = node.setdefault(key, {})
            node[keys[-1]] = Path(path).read_text(encoding="utf-8").strip()
        return tree
