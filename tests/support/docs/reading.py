"""Access to the documents for tests: code blocks, code spans, tables."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.support.paths import ROOT

DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")),
        ROOT / "CONTRIBUTING.md",
        ROOT / "bench" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced code block: its info string and its content."""

    info: str
    text: str


def read(name: str) -> str:
    """The text of a document, by its path from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [Block(match["info"].strip(), match["text"]) for match in _FENCE.finditer(text)]


def spans(text: str) -> list[str]:
    """All code spans outside fenced blocks, with line breaks as spaces."""
    return [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", _FENCE.sub("", text))]


def code_lines(text: str) -> list[str]:
    """All lines of code: fenced, or indented by at least four spaces."""
    fenced = [line for block in blocks(text) for line in block.text.splitlines()]
    indented = re.findall(r"^ {4,}(\S.*)$", _FENCE.sub("", text), re.MULTILINE)
    return fenced + indented


def table(text: str, *headings: str) -> list[list[str]]:
    """The cells of the table with these headings, without the heading row."""
    head = f"| {' | '.join(headings)} |\n"
    _, found, rest = text.partition(head)
    assert found, f"no table with the headings {headings}"
    rows = []
    for line in rest.splitlines()[1:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows
