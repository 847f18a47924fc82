"""One valid request to every route, and the response it gets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from tests.support.sidecar import Sidecar

USER = str(UUID(int=1))


NDJSON = {"Content-Type": "application/x-ndjson"}


COMMAND = b'{"type": "create_segment", "segment": "B"}'


class Row(NamedTuple):
    """A good request to a route, and what it answers."""

    path: str
    status: int = 200
    body: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    content_type: str = "application/json"
    takes_parameters: bool = False


TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/v1/users/{user_id}/segments"): Row(f"/v1/users/{USER}/segments"),
    ("PATCH", "/v1/users/{user_id}/segments"): Row(
        f"/v1/users/{USER}/segments", 202, body={"add": ["A"]}
    ),
    ("GET", "/v1/users/{user_id}/segments/{segment}"): Row(f"/v1/users/{USER}/segments/A"),
    ("GET", "/v1/users/{user_id}/history"): Row(f"/v1/users/{USER}/history"),
    ("POST", "/v1/memberships/query"): Row("/v1/memberships/query", body={"user_ids": [USER]}),
    ("POST", "/v1/segments"): Row("/v1/segments", 202, body={"segment": "B"}),
    ("GET", "/v1/segments"): Row("/v1/segments"),
    ("GET", "/v1/segments/{segment}"): Row("/v1/segments/A"),
    ("PATCH", "/v1/segments/{segment}"): Row("/v1/segments/A", 202, body={"description": "x"}),
    ("DELETE", "/v1/segments/{segment}"): Row("/v1/segments/A", 202),
    ("GET", "/v1/segments/{segment}/users"): Row("/v1/segments/A/users"),
    ("POST", "/v1/segments/preview"): Row(
        "/v1/segments/preview", 202, body={"auto": {"percent": 50}}
    ),
    ("POST", "/v1/commands"): Row("/v1/commands", 202, content=COMMAND, headers=NDJSON),
    ("GET", "/v1/commands/{command_id}"): Row("/v1/commands/known"),
    ("POST", "/v1/reports"): Row("/v1/reports", 201, body={"month": "2025-02"}),
    ("GET", "/v1/reports/{month}.csv"): Row("/v1/reports/2025-02.csv", content_type="text/csv"),
    ("GET", "/v1/reports/jobs"): Row("/v1/reports/jobs"),
    ("GET", "/v1/reports/jobs/{job_id}"): Row(
        "/v1/reports/jobs/none", 404, content_type="application/problem+json"
    ),
    ("DELETE", "/v1/reports/jobs/{job_id}"): Row(
        "/v1/reports/jobs/none", 404, content_type="application/problem+json"
    ),
    ("GET", "/livez"): Row("/livez", takes_parameters=True),
    ("GET", "/readyz"): Row("/readyz"),
    ("GET", "/metrics"): Row("/metrics", content_type="text/plain", takes_parameters=True),
    ("GET", "/openapi.json"): Row("/openapi.json"),
    ("GET", "/docs"): Row("/docs", content_type="text/html"),
    ("GET", "/docs/{file}"): Row("/docs/start.js", content_type="text/javascript"),
    ("GET", "/dev/users/{user_id}"): Row(f"/dev/users/{USER}"),
    ("PUT", "/dev/users/{user_id}"): Row(f"/dev/users/{USER}", body={"state": "active"}),
    ("DELETE", "/dev/users/{user_id}"): Row(
        f"/dev/users/{USER}", 202, headers={"Prefer": "wait=0"}
    ),
    ("POST", "/dev/users/import"): Row("/dev/users/import", content=b"", headers=NDJSON),
}


async def request(sidecar: Sidecar, key: tuple[str, str], path: str = "", method: str = "") -> Any:
    row = TABLE[key]
    return await sidecar.client.request(
        method or key[0],
        path or row.path,
        json=row.body,
        content=row.content,
        headers=row.headers,
    )
