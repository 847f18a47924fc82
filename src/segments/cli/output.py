"""Output of the commands: tables for people, JSON for programs.

With `--json`, stdout has one JSON document, or one per line (NDJSON) for lists, and nothing else.
Everything that is not the result goes to stderr.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Annotated, Any

import orjson
import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="print JSON only")]
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
# Width without a terminal: nothing is truncated.
_WIDE = 10_000
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def document(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
    sys.stdout.flush()


def lines(values: Iterable[Any]) -> None:
    """Print JSON documents, one per line."""
    for value in values:
        sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def text(line: str) -> None:
    """Print a line of text."""
    console().print(plain(line), soft_wrap=True)


def plain(text: str, style: str = "") -> Text:
    """Literal text: no markup, and control characters are replaced."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), style=style)


def note(line: str) -> None:
    """Print a note on stderr."""
    Console(stderr=True, soft_wrap=True).print(line, style="dim", markup=False, highlight=False)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], styles: Iterable[str] = ()
) -> None:
    """Print a table. `styles`: style of the second cell of each row."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = column in {"size", "lag", "version", "assigned"}
        grid.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row, style in zip_longest(rows, styles):
        grid.add_row(*(plain(cell, style or "" if at == 1 else "") for at, cell in enumerate(row)))
    console().print(grid)


def console() -> Console:
    """Console on stdout."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def progress(label: str, *, size: bool = False) -> Progress:
    """Progress bar on stderr, in bytes (`size`) or items."""
    count: ProgressColumn = DownloadColumn() if size else MofNCompleteColumn()
    return Progress(
        TextColumn(label),
        BarColumn(),
        count,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def when(instant: datetime | None, *, none: str = "") -> str:
    """Format a time as local time with its zone."""
    if instant is None:
        return none
    return instant.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def until(end: datetime | None) -> str:
    """Format an expiry time with the time left."""
    if end is None:
        return "never"
    left_s = (end - datetime.now(UTC)).total_seconds()
    return f"{when(end)} (in {duration(left_s)})" if left_s > 0 else when(end)


def duration(seconds: float) -> str:
    """Format a duration in its two largest units."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    left = int(seconds)
    parts: list[str] = []
    for unit_s, name in _UNITS:
        count, left = divmod(left, unit_s)
        if parts or count:
            parts.append(f"{count} {name}")
    return " ".join(each for each in parts[:2] if not each.startswith("0 "))
