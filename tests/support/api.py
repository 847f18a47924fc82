"""A client of a running deployment's HTTP interface, and the deployment's processes."""

from __future__ import annotations

import itertools
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from segments.settings import Settings
from tests.support import deployments
from tests.support.openapi import conformity

REQUEST_TIMEOUT_S = 60.0
START_TIMEOUT_S = 180.0
_numbers = itertools.count(1)


class Api:
    """A client that creates users, segments and changes for a test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = f"http://{settings.http.host}:{settings.http.port}"
        self.client = httpx.Client(
            base_url=self.url,
            trust_env=False,
            verify=False,
            timeout=REQUEST_TIMEOUT_S,
            event_hooks={"response": [conformity.check_response]},
        )

    def close(self) -> None:
        self.client.close()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def user(self, state: str = "active") -> str:
        """A new user of the replica, in this state."""
        user_id = str(uuid.uuid4())
        assert self.set_state(user_id, state).status_code == 200
        return user_id

    def set_state(self, user_id: str, state: str, **options: Any) -> httpx.Response:
        return self.client.put(f"/dev/users/{user_id}", json={"state": state}, **options)

    def segment(self, prefix: str = "seg") -> str:
        """A new segment with a unique name."""
        name = f"{prefix}-{next(_numbers)}-{uuid.uuid4().hex[:8]}"
        response = self.client.post("/v1/segments", json={"segment": name})
        assert response.status_code == 201, response.text
        return name

    def delete(self, segment: str) -> None:
        assert self.client.delete(f"/v1/segments/{segment}").status_code == 200

    def change(
        self,
        user_id: str,
        add: list[Any] | None = None,
        remove: list[str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        body = {"add": add or [], "remove": remove or []}
        return self.client.patch(f"/v1/users/{user_id}/segments", json=body, **options)

    def changed(self, user_id: str, **fields: Any) -> dict[str, Any]:
        """The result of a change that must be accepted."""
        response = self.change(user_id, **fields)
        assert response.status_code == 200, response.text
        result: dict[str, Any] = response.json()
        return result

    def segments_of(self, user_id: str) -> list[str]:
        """Names of a user's current segments."""
        response = self.get(f"/v1/users/{user_id}/segments")
        assert response.status_code == 200, response.text
        return [held["segment"] for held in response.json()["segments"]]

    def history(self, user_id: str, position: str | None = None, **query: Any) -> httpx.Response:
        headers = {} if position is None else {"Segments-Min-Position": position}
        return self.get(f"/v1/users/{user_id}/history", params=query, headers=headers)


class Deployment:
    """A deployment with one process per application."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.api = Api(settings)
        self._processes: dict[str, deployments.Process] = {}

    def start(self, *names: str) -> None:
        for name in names:
            self._processes[name] = deployments.start(self.settings, name)

    def process(self, name: str) -> deployments.Process:
        return self._processes[name]

    def stop(self, name: str) -> None:
        assert self._processes[name].stop() == 0, self._processes[name].log()

    def wait_until_ready(self) -> None:
        try:
            deployments.wait_until(lambda: ready(self.api), START_TIMEOUT_S, what="readiness")
        except AssertionError as error:
            for process in self._processes.values():
                error.add_note(f"--- {process.name}\n{process.log()}")
            raise

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Freeze a process with SIGSTOP; keep it shorter than its Kafka session timeout."""
        process = self._processes[name]
        process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.signal(signal.SIGCONT)


def ready(api: Api) -> bool:
    """Whether /readyz returns 200."""
    try:
        return api.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
