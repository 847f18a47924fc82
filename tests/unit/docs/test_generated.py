"""The generated parts of the documents are up to date."""

from __future__ import annotations

import pytest

from segments.kafka import topics
from segments.settings import Settings
from tests.support.docs import generated, reading
from tests.support.paths import ROOT

each_part = pytest.mark.parametrize(
    ("document", "name"), generated.PARTS, ids=[" ".join(part) for part in generated.PARTS]
)


@each_part
def test_a_generated_part_is_current(document: str, name: str) -> None:
    _, inside, _ = generated.between(reading.read(document), name)
    assert inside == generated.PARTS[document, name](), (
        "run: python -m tests.support.docs.generated"
    )


def test_no_other_part_claims_to_be_generated() -> None:
    found = {
        (str(path.relative_to(ROOT)), line)
        for path in reading.DOCUMENTS
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("<!-- generated: ")
    }
    assert found == {
        (document, f"<!-- generated: {name} -->") for document, name in generated.PARTS
    }


def test_every_setting_says_what_it_means() -> None:
    silent = []
    for name, field in Settings.model_fields.items():
        section = getattr(field.annotation, "model_fields", None)
        for inner, described in (section or {name: field}).items():
            if not described.description:
                silent.append(inner)
    assert silent == []


@each_part
def test_a_cell_never_breaks_its_row(document: str, name: str) -> None:
    columns = 0
    for line in generated.PARTS[document, name]().splitlines():
        if line.startswith("|"):
            columns = columns or line.count("|")
            assert line.count("|") == columns, line
        else:
            columns = 0


def test_every_topic_has_a_chapter() -> None:
    text = reading.read("docs/topics.md")
    ours = [topic.name for topic in topics.load() if not topic.name.startswith("changelog")]
    assert [name for name in ours if f"\n## {name}\n" not in text] == []
