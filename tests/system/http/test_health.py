"""/livez, /readyz and /metrics on a real broker."""

from __future__ import annotations

import uuid

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import deployments
from tests.support.api import Api, ready
from tests.support.sidecar import assert_problem


def test_alive(api: Api) -> None:
    assert api.get("/livez").json() == {"status": "alive"}
    assert api.client.head("/livez").status_code == 200


def test_ready(api: Api) -> None:
    deployments.wait_until(lambda: ready(api), what="readiness")
    assert api.get("/readyz").json()["status"] == "ready"
    body = api.get("/readyz?verbose").json()
    assert body["checks"] == {"feed": "ok", "view": "ok", "history": "ok"}
    assert body["partitions"].keys() == {str(n) for n in range(api.settings.partitions)}
    assert all(each["staleness_ms"] >= 0 for each in body["partitions"].values())
    assert_problem(api.get("/readyz?loud"), 400, "invalid")


def samples(api: Api) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = api.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def count(api: Api, method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    key = ("segments_http_request_seconds_count", frozenset(labels.items()))
    return samples(api).get(key, 0)


def test_metrics_count_requests_by_route(api: Api) -> None:
    route = "/v1/users/{user_id}/segments"
    before = count(api, "GET", route, 404)
    for _ in range(3):
        api.get(f"/v1/users/{uuid.uuid4()}/segments")
    assert count(api, "GET", route, 404) == before + 3


def test_clients_cannot_create_time_series(api: Api) -> None:
    for number in range(20):
        api.get(f"/unknown/{number}")
        api.client.request("MKCOL", f"/livez?{number}")
        api.client.request("SEARCH", f"/unknown?{number}")
    labels = {
        dict(labels)["route"]: dict(labels)["method"]
        for name, labels in samples(api)
        if name == "segments_http_request_seconds_count"
    }
    assert not [route for route in labels if "unknown/" in route]
    methods = {
        dict(labels)["method"]
        for name, labels in samples(api)
        if name == "segments_http_request_seconds_count"
    }
    assert methods <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}


def test_metrics_say_how_stale_the_view_is(api: Api) -> None:
    def partitions() -> set[str]:
        return {
            dict(labels)["partition"]
            for name, labels in samples(api)
            if name == "segments_view_staleness_seconds"
        }

    wanted = {str(n) for n in range(api.settings.partitions)}
    deployments.wait_until(lambda: partitions() == wanted, what="every partition's staleness")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_other_methods_are_rejected(api: Api, path: str) -> None:
    response = api.client.post(path, json={})
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET,HEAD"
