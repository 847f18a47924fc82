"""Redacts secrets in settings whose type is not SecretStr."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "**********"
_SECRET_OPTION = re.compile(r"password|secret|token|jaas|oauth|pem|\.key", re.IGNORECASE)
_USERINFO = re.compile(r"//[^/\s]+@")


def hidden_options(options: dict[str, str]) -> dict[str, str]:
    """Kafka client options with secret values redacted."""
    return {key: HIDDEN if _SECRET_OPTION.search(key) else value for key, value in options.items()}


def without_userinfo(text: str) -> str:
    """A text with the userinfo of its URLs redacted."""
    return _USERINFO.sub(f"//{HIDDEN}@", text)


def redacted(value: Any) -> Any:
    """The value of a setting, safe to display. SecretStr values redact themselves."""
    if isinstance(value, str):
        return without_userinfo(value)
    if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
        return {key: without_userinfo(each) for key, each in hidden_options(value).items()}
    return value
