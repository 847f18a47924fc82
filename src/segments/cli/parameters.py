"""Parsers of arguments: an invalid one is a usage error (status 2)."""

from __future__ import annotations

from collections.abc import Callable

import typer

from segments.contracts import names, times


def _validator(check: Callable[[str], object]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            check(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return text

    return parse


def user(text: str) -> str:
    """Parse a user id into its canonical form."""
    try:
        return names.canonical_user_id(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


segment = _validator(names.check_segment_name)
instant = _validator(times.from_rfc3339)
ttl = _validator(times.duration_to_ms)
