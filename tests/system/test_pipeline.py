"""Command → router → shard → documents, results and history, on a real broker."""

from __future__ import annotations

import uuid

import orjson
from confluent_kafka import Producer

from segments.settings import Settings
from tests.support import deployments
from tests.support.records import read


def test_a_command_yields_document_result_and_history_row(deployment: Settings) -> None:
    deployments.start(deployment, "router")
    deployments.start(deployment, "shards")
    user_id = str(uuid.uuid4())
    producer = Producer(deployment.client_config())
    topic = deployment.topic("segments.commands")
    create = {"type": "create_segment", "id": "c1", "segment": "A"}
    change = {"type": "change_memberships", "id": "c2", "user_id": user_id, "add": ["A"]}
    for command in (create, change):
        producer.produce(topic, orjson.dumps(command))
    producer.flush(10)

    def results() -> dict[str, str]:
        found = [r.json for r in read(deployment, "segments.results")]
        return {r["command_id"]: r["status"] for r in found}

    deployments.wait_until(
        lambda: results() == {"c1": "applied", "c2": "applied"}, what="both results"
    )
    documents = {(r.key or b"").decode(): r.json for r in read(deployment, "segments.users")}
    assert list(documents[user_id]["segments"]) == ["A"]
    [row] = [r.json for r in read(deployment, "segments.history")]
    assert (row["user_id"], row["operation"], row["command_id"]) == (user_id, "add", "c2")
