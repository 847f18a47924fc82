"""Whether the service answers, completely and freshly enough."""

from __future__ import annotations

from segments.client import call
from segments.client.call import Core
from segments.client.models import Health
from segments.client.sansio import Steps


def health(core: Core, *, timeout_s: float | None = None) -> Steps[Health]:
    """Whether the sidecar is ready, and what is amiss; never an error for one that is not."""
    reply = yield from core.call(timeout_s).send(
        "GET", "/readyz?verbose", accepted=frozenset({503})
    )
    told = call.document(reply)
    return call.model(Health, told | {"ready": told.get("status") == "ready"})
