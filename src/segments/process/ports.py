"""Free TCP ports, and a clear error for one that is in use."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 10_240
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS = 200


class PortInUseError(RuntimeError):
    """A port is in use; the message names it, its purpose and the setting to change."""

    def __init__(self, host: str, port: int, purpose: str, setting: str) -> None:
        super().__init__(
            f"port {port} on {host}, needed for {purpose}, is in use: "
            f"free it, or set {setting} to another port"
        )


def is_free(host: str, port: int) -> bool:
    """Whether a server can listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free(host: str, port: int, *, purpose: str, setting: str) -> None:
    """Raise PortInUseError unless a server can listen on this port. Port 0 is always free."""
    if port and not is_free(host, port):
        raise PortInUseError(host, port, purpose, setting)


def free_port(host: str = "127.0.0.1") -> int:
    """A free port.

    It is below the ephemeral range: a client that keeps reconnecting to a stopped server on an
    ephemeral port eventually connects to itself (TCP self-connect) and occupies the port.
    """
    generator = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = generator.randrange(_LOWEST, _lowest_ephemeral())
        if is_free(host, port):
            return port
    raise RuntimeError(f"no free port found on {host} in {_ATTEMPTS} attempts")


def _lowest_ephemeral() -> int:
    try:
        lowest = int(_EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return 32_768
    return max(lowest, _LOWEST + 1_000)
