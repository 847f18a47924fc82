"""Everything that the documents name exists: links, tests, commands, settings, metrics, paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client.metrics import MetricWrapperBase

from segments.cli import app
from segments.settings import Settings
from segments.settings.sources import NOT_SETTINGS
from segments.telemetry import metrics
from tests.support.docs import reading
from tests.support.paths import ROOT

DOCUMENTS = [str(path.relative_to(ROOT)) for path in reading.DOCUMENTS]
each_document = pytest.mark.parametrize("document", DOCUMENTS)


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_link_leads_somewhere(document: str) -> None:
    path = ROOT / document
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        if not linked.is_file() or (anchor and anchor not in _anchors(linked)):
            broken.append(target)
    assert broken == []


def test_every_invariant_has_tests_that_exist() -> None:
    invariants = reading.table(reading.read("ARCHITECTURE.md"), "#", "invariant", "tests")
    assert [int(number) for number, _, _ in invariants] == list(range(1, len(invariants) + 1))
    missing = []
    for number, _, tests in invariants:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, f"invariant {number} names no test"
        missing += [f"{file}::{test}" for file, test in named if not _defines(file, test)]
    assert missing == []


def _defines(file: str, test: str) -> bool:
    path = ROOT / "tests" / file
    pattern = rf"^(?:async )?def {test}\(|^{test} = .*\.TestCase\b"
    return path.is_file() and bool(
        re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    )


@each_document
def test_every_command_line_exists(document: str) -> None:
    text = reading.read(document)
    pattern = re.compile(r"^(?:SEGMENTS_\w+=\S+ )*(?:\.venv/bin/)?segments ([a-z].*)")
    lines = [*reading.spans(text), *reading.code_lines(text)]
    wrong = [m[0] for line in lines if (m := pattern.match(line)) and not _is_valid(m[1])]
    assert wrong == []


def _is_valid(arguments: str) -> bool:
    command: Any = typer.main.get_command(app)
    # An explanation follows after several spaces; alternatives are separated by a bar.
    for word in re.split(r"  +", arguments)[0].split():
        subcommands = getattr(command, "commands", None)
        if word == "…":
            break
        if subcommands is not None:
            command = next((subcommands[w] for w in word.split("|") if w in subcommands), None)
            if command is None:
                return False
        elif word.startswith("-"):
            options = {name for parameter in command.params for name in parameter.opts}
            if word not in options:
                return False
    return True


@each_document
def test_every_setting_exists(document: str) -> None:
    text = reading.read(document)
    settings = set()
    for name, field in Settings.model_fields.items():
        section = getattr(field.annotation, "model_fields", {})
        settings |= {name, *(f"{name}.{inner}" for inner in section)}
    variables = {f"SEGMENTS_{name.upper().replace('.', '__')}" for name in settings}
    variables |= {f"{variable}_FILE" for variable in variables} | NOT_SETTINGS
    assert set(re.findall(r"\bSEGMENTS_[A-Z_]+[A-Z]\b", text)) - variables == set()
    sections = "|".join(name for name in settings if "." not in name)
    named = {
        span
        for span in reading.spans(text)
        if re.fullmatch(rf"(?:{sections})\.[a-z_]+", span) and not span.endswith(".py")
    }
    topics = {"users.events", "users.refreshes"}
    assert named - settings - topics == set()


def test_every_metric_exists() -> None:
    names = set()
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [described] = metric.describe()
            names |= {described.name + ending for ending in ("", "_total", "_count", "_sum")}
    named = set(re.findall(r"\bsegments_[a-z_]+", reading.read("docs/operations.md")))
    assert named - names == set()


@each_document
def test_every_path_of_the_repository_exists(document: str) -> None:
    pattern = re.compile(
        r"(?:src/segments|streams|state|http|tests|scripts|examples|docs|bench)/[\w/.-]*"
    )
    named = [span for span in reading.spans(reading.read(document)) if pattern.fullmatch(span)]
    assert [span for span in named if not _exists(span)] == []


def _exists(span: str) -> bool:
    path = ROOT / Path(span)
    return path.exists() or (ROOT / "tests" / span).exists()
