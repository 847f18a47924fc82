"""The Python examples of the documents run on a running service and print what they claim."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

from segments.client import ConflictError, SegmentsClient, errors
from tests.support.api import Api
from tests.support.docs import reading

USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"


def _run(document: str, url: str) -> tuple[str, dict[str, Any]]:
    """The output of a document's examples, run in order, and the variables that they define."""
    code = [
        block.text for block in reading.blocks(reading.read(document)) if block.info == "python"
    ]
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for text in code:
            exec(compile(text.replace("http://127.0.0.1:8080", url), document, "exec"), names)
    return printed.getvalue(), names


@pytest.fixture
def _like_the_demo(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user and the segments of the examples, whatever other tests left."""
    monkeypatch.chdir(tmp_path)
    with SegmentsClient(api.url) as client:
        client.set_user_state(USER, "active")
        for segment in ("newsletter", "beta", "trial"):
            with contextlib.suppress(ConflictError):
                client.create_segment(segment)
        client.change(USER, add=["newsletter"], remove=["beta", "trial"])


@pytest.mark.usefixtures("_like_the_demo")
def test_the_examples_of_the_client_run(api: Api) -> None:
    printed, names = _run("docs/client.md", api.url)
    assert "applied [('beta', 'add'), ('trial', 'add'), ('newsletter', 'remove')]" in printed
    assert "already_expired ('beta',)" in printed
    assert names["rows"] >= 1
    names["client"].delete_segment("tenth")
    names["client"].close()


@pytest.mark.usefixtures("_like_the_demo")
def test_the_lines_of_the_readme_run(api: Api) -> None:
    printed, names = _run("README.md", api.url)
    assert "beta" in printed
    names["client"].close()


def test_the_documented_error_tree_matches_the_client() -> None:
    def names(text: str) -> list[str]:
        words = (line.strip("│├└─ ").partition(" ")[0] for line in text.splitlines())
        return [word for word in words if word.endswith("Error")]

    [drawn] = [
        block.text
        for block in reading.blocks(reading.read("docs/client.md"))
        if block.text.startswith("SegmentsError")
    ]
    assert names(drawn) == names(errors.__doc__ or "")


def test_every_call_is_in_the_table() -> None:
    table = reading.table(reading.read("docs/client.md"), "call", "gives")
    documented = " ".join(row[0] for row in table)
    calls = {name for name in vars(SegmentsClient) if not name.startswith("_")} - {"close"}
    assert {name for name in calls if f"`{name}" not in documented} == set()
