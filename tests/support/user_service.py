"""The example user service as a child process."""

from __future__ import annotations

import sys
from typing import Any

import httpx

from segments.settings import Settings
from tests.support import deployments
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "user_service.py"


class UserService:
    """The example service as a process: its users, its faults, its counts."""

    def __init__(self, settings: Settings) -> None:
        assert settings.user_service.base_url is not None
        self._settings = settings
        self._url = httpx.URL(settings.user_service.base_url)
        self._client = httpx.Client(base_url=self._url, trust_env=False, timeout=10)
        self._process: deployments.Process | None = None

    def start(self, users: int = 20) -> None:
        argv = [sys.executable, str(EXAMPLE), "--port", str(self._url.port), "--users", str(users)]
        self._process = deployments.start_command(self._settings, "user-service", argv)
        deployments.wait_until(self._answers, what="the user service")

    def _answers(self) -> bool:
        try:
            return self._client.get("/stats").status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def ids(self) -> list[str]:
        return self._client.get("/users").text.split()

    def put(self, user_id: str, state: str) -> int:
        return int(self._client.put(f"/users/{user_id}", json={"state": state}).json()["version"])

    def delete(self, user_id: str) -> None:
        self._client.delete(f"/users/{user_id}").raise_for_status()

    def fault(self, **fields: Any) -> None:
        """Set a fault; without fields, end all."""
        self._client.post("/faults", json=fields or None).raise_for_status()

    def calls(self, user_id: str | None = None) -> int:
        stats = self._client.get("/stats").json()
        return int(stats["by_user"].get(user_id, 0) if user_id else stats["calls"])

    def close(self) -> None:
        self._client.close()
