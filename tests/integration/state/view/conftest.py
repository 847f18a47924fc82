"""An empty view, and a way to fill it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segments.state.view.view import View
from tests.support.view.view_records import ViewFiller, opened


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    view = opened(tmp_path / "view")
    yield view
    view.close()


@pytest.fixture
def fill(view: View) -> ViewFiller:
    return ViewFiller(view)
