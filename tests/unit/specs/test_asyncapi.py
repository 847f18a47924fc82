"""The AsyncAPI document follows the specification and matches topics.yaml.

No installed package has the official JSON Schema of AsyncAPI, so its rules are checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from segments.cli import app
from segments.kafka import topics
from segments.settings import KafkaSettings, Settings
from segments.specs import asyncapi

FIELDS = {
    "document": {
        "asyncapi",
        "info",
        "defaultContentType",
        "servers",
        "channels",
        "operations",
        "components",
    },
    "channel": {"address", "title", "description", "messages", "bindings"},
    "operation": {"action", "channel", "summary", "tags", "messages", "bindings"},
    "message": {
        "name",
        "title",
        "summary",
        "contentType",
        "correlationId",
        "headers",
        "payload",
        "bindings",
        "examples",
    },
    "example": {"headers", "payload"},
    "channel binding": {
        "topic",
        "partitions",
        "replicas",
        "topicConfiguration",
        "bindingVersion",
    },
    "message binding": {"key", "bindingVersion"},
    "operation binding": {"groupId", "bindingVersion"},
}
COMPONENT_KEY = re.compile(r"[a-zA-Z0-9.\-_]+")


@cache
def document() -> dict[str, Any]:
    return asyncapi.document(Settings.model_construct())


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for item in node:
            yield from _walk(item)


def resolve(reference: str) -> Any:
    """Resolve a reference within the document."""
    root, *steps = reference.split("/")
    assert root == "#", reference
    node = document()
    for step in steps:
        node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


def test_document_has_only_specified_fields() -> None:
    spec = document()
    assert spec["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= spec["info"].keys()
    assert spec.keys() <= FIELDS["document"]
    for server in spec["servers"].values():
        assert server.keys() == {"host", "protocol", "description"}
        assert server["protocol"] == "kafka"
        assert re.fullmatch(r"[^/\s]+:\d+", server["host"])
    for name in (*spec["channels"], *spec["components"]["messages"], *spec["servers"]):
        assert COMPONENT_KEY.fullmatch(name)
    for channel in spec["channels"].values():
        assert channel.keys() <= FIELDS["channel"]
        assert channel["bindings"]["kafka"].keys() <= FIELDS["channel binding"]
    for operation in spec["operations"].values():
        assert operation.keys() <= FIELDS["operation"]
        assert operation["action"] in ("send", "receive")
        bindings = operation.get("bindings", {"kafka": {}})
        assert bindings["kafka"].keys() <= FIELDS["operation binding"]
    for message in spec["components"]["messages"].values():
        assert message.keys() <= FIELDS["message"]
        assert message["bindings"]["kafka"].keys() <= FIELDS["message binding"]
        assert message["summary"]
        for example in message.get("examples", []):
            assert example.keys() <= FIELDS["example"]


def test_references_resolve_and_all_components_are_used() -> None:
    references = {node["$ref"] for node in _walk(document()) if isinstance(node.get("$ref"), str)}
    assert all(resolve(reference) is not None for reference in references)
    components = {
        f"#/components/{part}/{name}"
        for part in ("messages", "schemas")
        for name in document()["components"][part]
    }
    assert components <= references


def test_schemas_are_valid_draft_07() -> None:
    schemas = document()["components"]["schemas"]
    for schema in schemas.values():
        Draft7Validator.check_schema(schema)
        assert schema.get("type") == "object" or "anyOf" in schema
    later = {"prefixItems", "$defs", "discriminator", "dependentRequired", "unevaluatedProperties"}
    assert [node for node in _walk(schemas) if later & node.keys()] == []


@pytest.mark.parametrize(
    "name", asyncapi.document(Settings.model_construct())["components"]["messages"]
)
def test_message_examples_are_valid(name: str) -> None:
    message = document()["components"]["messages"][name]
    for example in message.get("examples", []):
        for part, value in example.items():
            _validator(message[part]).validate(value)
    if "key" in (binding := message["bindings"]["kafka"]):
        Draft7Validator.check_schema(binding["key"])


def _validator(schema: dict[str, Any]) -> Draft7Validator:
    # A reference points into the document, so the document is the schema around it.
    return Draft7Validator({"allOf": [schema], "components": document()["components"]})


def test_channels_match_topics_yaml() -> None:
    spec = document()
    by_address = {channel["address"]: channel for channel in spec["channels"].values()}
    settings = Settings.model_construct()
    assert by_address.keys() == {topic.on_cluster(settings) for topic in topics.load()}
    for topic in topics.load():
        binding = by_address[topic.on_cluster(settings)]["bindings"]["kafka"]
        assert binding["partitions"] == 8
        assert binding["replicas"] == 1
        configured = {
            name: ",".join(value) if isinstance(value, list) else str(value)
            for name, value in binding["topicConfiguration"].items()
        }
        assert configured == topic.config


def test_operations_are_those_of_topics_yaml() -> None:
    spec = document()
    found = {
        (
            operation["tags"][0]["name"],
            operation["action"],
            resolve(operation["channel"]["$ref"])["address"],
        )
        for operation in spec["operations"].values()
    }
    settings = Settings.model_construct()
    expected = {
        (party, action, topic.on_cluster(settings))
        for topic in topics.load()
        for action, parties in (("send", topic.writers), ("receive", topic.readers))
        for party in parties
    }
    assert found == expected
    assert len(spec["operations"]) == len(expected)


def test_operations_refer_to_messages_of_their_channel() -> None:
    for operation in document()["operations"].values():
        prefix = operation["channel"]["$ref"] + "/messages/"
        assert operation["messages"]
        for message in operation["messages"]:
            assert message["$ref"].startswith(prefix)
            assert resolve(message["$ref"])["$ref"].startswith("#/components/messages/")


def test_commands_and_results_have_correlation_ids() -> None:
    messages = document()["components"]["messages"]
    locations = {
        name: message["correlationId"]["location"]
        for name, message in messages.items()
        if "correlationId" in message
    }
    assert locations.pop("segments.results.result") == "$message.payload#/command_id"
    assert locations.pop("segments.results.preview_result") == "$message.payload#/command_id"
    assert len(locations) == 5
    for name, location in locations.items():
        assert location == "$message.payload#/id"
        [value, *_] = messages[name]["examples"]
        assert value["payload"]["id"]


def test_operations_list_only_messages_the_application_writes() -> None:
    operations = document()["operations"]

    def sent(application: str) -> set[str]:
        messages = operations[f"{application}.send.segments.shards"]["messages"]
        return {message["$ref"].rpartition("/")[2] for message in messages}

    assert sent("router") == {"change", "create", "update", "delete", "preview"}
    assert sent("users") == {"user"}
    assert not sent("shards") & (sent("router") | sent("users"))


def test_document_reflects_deployment_settings() -> None:
    kafka = KafkaSettings(bootstrap_servers="a:9092, b:9093", prefix="eu.", replication_factor=3)
    spec = asyncapi.document(Settings.model_construct(kafka=kafka, partitions=16))
    assert [server["host"] for server in spec["servers"].values()] == ["a:9092", "b:9093"]
    assert spec["channels"].keys() == document()["channels"].keys()
    commands = spec["channels"]["segments.commands"]
    assert commands["address"] == commands["bindings"]["kafka"]["topic"] == "eu.segments.commands"
    assert commands["bindings"]["kafka"]["partitions"] == 16
    assert commands["bindings"]["kafka"]["replicas"] == 3
    group = spec["operations"]["router.receive.segments.commands"]["bindings"]["kafka"]["groupId"]
    assert group["enum"] == ["eu.segments-router"]


def test_cli_prints_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTS_KAFKA__PREFIX", "printed.")
    result = CliRunner().invoke(app, ["topics", "asyncapi"])
    assert result.exit_code == 0, result.output
    spec = json.loads(result.stdout)
    assert spec["channels"]["segments.history"]["address"] == "printed.segments.history"
    assert spec["components"] == json.loads(json.dumps(document()["components"]))
