"""Shell completion of segment names, if the service responds quickly."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from segments.client import Retries, SegmentsClient, SegmentsError

COMPLETION_TIMEOUT_S = 0.6
"""Longest time to wait for suggestions."""
SHOWN = 200


def segment_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of segments with this prefix; none if the service does not respond in time."""
    try:
        with _client(context) as client:
            names = (found.segment for found in client.segments(timeout_s=COMPLETION_TIMEOUT_S))
            return _with_prefix(names, incomplete)
    except (SegmentsError, OSError, ValueError):
        # Any output here would end up in the line being typed: suggest nothing instead.
        return []


def _with_prefix(names: object, incomplete: str) -> list[str]:
    found: list[str] = []
    for name in names:  # type: ignore[attr-defined]
        if name.startswith(incomplete):
            found.append(name)
        if len(found) >= SHOWN:
            break
    return found


def _client(context: typer.Context) -> SegmentsClient:
    from segments.settings import Settings  # noqa: PLC0415 - only when completing
    from segments.settings.endpoints import base_url  # noqa: PLC0415 - only when completing

    options = context.params
    url = options.get("url") or os.environ.get("SEGMENTS_URL") or base_url(Settings())
    token = options.get("token") or os.environ.get("SEGMENTS_TOKEN")
    file = options.get("token_file") or os.environ.get("SEGMENTS_TOKEN_FILE")
    if token is None and file is not None:
        token = Path(file).read_text(encoding="utf-8").strip()
    return SegmentsClient(
        str(url),
        token=token,
        connect_timeout_s=COMPLETION_TIMEOUT_S,
        io_timeout_s=COMPLETION_TIMEOUT_S,
        retries=Retries(attempts=1),
    )
