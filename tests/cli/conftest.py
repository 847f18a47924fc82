"""A shell beside the running deployment."""

from __future__ import annotations

import pytest

from tests.cli.calling import Shell
from tests.http.api import Deployment


@pytest.fixture
def shell(running: Deployment) -> Shell:
    """Commands that ask the shared deployment."""
    return Shell(running.api.url)
