"""Usage errors."""

from __future__ import annotations


class UsageError(RuntimeError):
    """The command cannot be carried out as given; the message explains why."""
