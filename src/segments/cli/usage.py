"""The error of a command that was used wrongly."""

from __future__ import annotations


class UsageError(RuntimeError):
    """The command cannot do what it was asked; the message says why."""
