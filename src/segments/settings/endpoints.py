"""Addresses derived from the settings."""

from __future__ import annotations

from segments.settings import Settings


def base_url(tree: Settings) -> str:
    """The base URL of the HTTP sidecar as seen from this machine."""
    # A server that listens on all addresses is reachable on loopback.
    host = "127.0.0.1" if tree.http.host in {"0.0.0.0", "::", ""} else tree.http.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return (tree.http.public_url or f"http://{host}:{tree.http.port}").rstrip("/")
