"""Consumer lag as exported to Prometheus."""

from __future__ import annotations

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from segments.process.ports import free_port
from segments.settings import Settings
from tests.support import deployments
from tests.support.records import send

RECORDS = 50


def lag(settings: Settings) -> dict[tuple[str, str], float]:
    """{(topic, partition): records} as the router tells it; empty while it does not answer."""
    try:
        text = httpx.get(f"http://127.0.0.1:{settings.metrics.port}/metrics", timeout=5).text
    except httpx.HTTPError:
        return {}
    return {
        (sample.labels["topic"], sample.labels["partition"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "segments_lag_records" and sample.labels["application"] == "router"
    }


def test_lag_is_reported_and_zero_once_all_is_consumed(deployment: Settings) -> None:
    metrics = deployment.metrics.model_copy(update={"enabled": True, "port": free_port()})
    settings = deployment.model_copy(update={"metrics": metrics})
    command = orjson.dumps({"type": "create_segment", "segment": "A"})
    wanted = {}
    for partition in range(settings.partitions):
        send(settings, "segments.commands", [command] * RECORDS, partition=partition)
        wanted["segments.commands", str(partition)] = 0.0
    deployments.start(settings, "router")
    deployments.wait_until(lambda: lag(settings) == wanted, what="a lag of nothing everywhere")
