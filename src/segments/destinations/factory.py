"""Creates a destination from its settings."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from segments.destinations.base import Destination
from segments.settings.destinations import AnyDestination


def create_destination(settings: AnyDestination, step_timeout_s: float) -> Destination:
    """The destination for these settings; it connects when an upload begins.

    A destination of kind `x` is what `create(settings, step_timeout_s)` in the module
    `segments.destinations.x` returns.
    """
    module = import_module(f"segments.destinations.{settings.kind}")
    create: Callable[[AnyDestination, float], Destination] = module.create
    return create(settings, step_timeout_s)
