"""What of a setting must not be shown, though its kind does not say so."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "**********"
_SECRET_OPTION = re.compile(r"password|secret|token|jaas|oauth|pem|\.key", re.IGNORECASE)
_USERINFO = re.compile(r"//[^/\s]+@")


def hidden_options(options: dict[str, str]) -> dict[str, str]:
    """Options of a Kafka client, those that are secrets hidden."""
    return {key: HIDDEN if _SECRET_OPTION.search(key) else value for key, value in options.items()}


def without_userinfo(text: str) -> str:
    """A text with hidden users and passwords of the URLs in it."""
    return _USERINFO.sub(f"//{HIDDEN}@", text)


def redacted(value: Any) -> Any:
    """A value of a setting, fit to be shown; secrets of their own kind hide themselves."""
    if isinstance(value, str):
        return without_userinfo(value)
    if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
        return {key: without_userinfo(each) for key, each in hidden_options(value).items()}
    return value
