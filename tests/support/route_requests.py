"""One valid request per route, the response it gets, and the role it needs.

Roles and signed links are written by hand: the tests compare the routes' declarations with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from uuid import UUID

from tests.support.sidecar import Sidecar

USER = str(UUID(int=1))
NDJSON = {"Content-Type": "application/x-ndjson"}
COMMAND = b'{"type": "create_segment", "segment": "B"}'


class Row(NamedTuple):
    """A valid request to a route, its response, and who may send it.

    `role`: the role it needs; `metrics` = the one in `auth.metrics`. `signed_link`: a signed link
    replaces credentials. `ignores_parameters`: unknown query parameters are not rejected.
    """

    role: Literal["open", "analyst", "admin", "metrics"]
    path: str
    status: int = 200
    body: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    content_type: str = "application/json"
    ignores_parameters: bool = False
    signed_link: bool = False


TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/v1/users/{user_id}/segments"): Row("analyst", f"/v1/users/{USER}/segments"),
    ("PATCH", "/v1/users/{user_id}/segments"): Row(
        "admin", f"/v1/users/{USER}/segments", 202, body={"add": ["A"]}
    ),
    ("GET", "/v1/users/{user_id}/segments/{segment}"): Row(
        "analyst", f"/v1/users/{USER}/segments/A"
    ),
    ("GET", "/v1/users/{user_id}/history"): Row("analyst", f"/v1/users/{USER}/history"),
    ("POST", "/v1/memberships/query"): Row(
        "analyst", "/v1/memberships/query", body={"user_ids": [USER]}
    ),
    ("POST", "/v1/segments"): Row("admin", "/v1/segments", 202, body={"segment": "B"}),
    ("GET", "/v1/segments"): Row("analyst", "/v1/segments"),
    ("GET", "/v1/segments/{segment}"): Row("analyst", "/v1/segments/A"),
    ("PATCH", "/v1/segments/{segment}"): Row(
        "admin", "/v1/segments/A", 202, body={"description": "x"}
    ),
    ("DELETE", "/v1/segments/{segment}"): Row("admin", "/v1/segments/A", 202),
    ("GET", "/v1/segments/{segment}/users"): Row("analyst", "/v1/segments/A/users"),
    ("POST", "/v1/segments/preview"): Row(
        "analyst", "/v1/segments/preview", 202, body={"auto": {"percent": 50}}
    ),
    ("POST", "/v1/commands"): Row("admin", "/v1/commands", 202, content=COMMAND, headers=NDJSON),
    ("GET", "/v1/commands/{command_id}"): Row("analyst", "/v1/commands/known"),
    ("POST", "/v1/reports"): Row("analyst", "/v1/reports", 201, body={"month": "2025-02"}),
    ("GET", "/v1/reports/{month}.csv"): Row(
        "analyst", "/v1/reports/2025-02.csv", content_type="text/csv", signed_link=True
    ),
    ("GET", "/v1/reports/jobs"): Row("analyst", "/v1/reports/jobs"),
    ("GET", "/v1/reports/jobs/{job_id}"): Row(
        "analyst", "/v1/reports/jobs/none", 404, content_type="application/problem+json"
    ),
    ("DELETE", "/v1/reports/jobs/{job_id}"): Row(
        "admin", "/v1/reports/jobs/none", 404, content_type="application/problem+json"
    ),
    ("GET", "/livez"): Row("open", "/livez", ignores_parameters=True),
    ("GET", "/readyz"): Row("open", "/readyz"),
    ("GET", "/metrics"): Row(
        "metrics", "/metrics", content_type="text/plain", ignores_parameters=True
    ),
    ("GET", "/openapi.json"): Row("open", "/openapi.json"),
    ("GET", "/docs"): Row("open", "/docs", content_type="text/html"),
    ("GET", "/docs/{file}"): Row("open", "/docs/start.js", content_type="text/javascript"),
    ("GET", "/dev/users/{user_id}"): Row("admin", f"/dev/users/{USER}"),
    ("PUT", "/dev/users/{user_id}"): Row("admin", f"/dev/users/{USER}", body={"state": "active"}),
    ("DELETE", "/dev/users/{user_id}"): Row(
        "admin", f"/dev/users/{USER}", 202, headers={"Prefer": "wait=0"}
    ),
    ("POST", "/dev/users/import"): Row("admin", "/dev/users/import", content=b"", headers=NDJSON),
}


async def request(sidecar: Sidecar, key: tuple[str, str], path: str = "", method: str = "") -> Any:
    """Send the route's request, optionally to another path or with another method."""
    row = TABLE[key]
    return await sidecar.client.request(
        method or key[0],
        path or row.path,
        json=row.body,
        content=row.content,
        headers=row.headers,
    )
