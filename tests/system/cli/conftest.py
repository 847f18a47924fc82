"""A shell for the running deployment."""

from __future__ import annotations

import pytest

from tests.support.api import Deployment
from tests.support.shell import Shell


@pytest.fixture
def shell(running: Deployment) -> Shell:
    """Runs commands against the shared deployment."""
    return Shell(running.api.url)
