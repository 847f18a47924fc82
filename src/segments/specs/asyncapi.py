"""The AsyncAPI 3.0 document of a deployment, generated from topics.yaml and the message models.

Kafka specifics follow version 0.5.0 of the Kafka bindings.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from segments import __version__
from segments.contracts.examples import EXAMPLES
from segments.contracts.messages import (
    BYTES_CONTENT_TYPE,
    MESSAGE_TYPES,
    MessageType,
    message_types_of,
)
from segments.contracts.topics import COMMANDS_TOPIC, RESULTS_TOPIC
from segments.kafka.topics import Topic, load
from segments.settings import Settings
from segments.specs.json_schemas import MODE, Generator

ASYNCAPI_VERSION = "3.0.0"
_BINDING = "0.5.0"
_OF_TOPICS = ("cleanup.policy", "retention.ms", "max.message.bytes", "message.timestamp.type")
_SERVER = "kafka"


def document(settings: Settings) -> dict[str, Any]:
    """The document: channels, operations and messages of this deployment's topics."""
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Segments",
            "version": __version__,
            "description": "Who is in which segment, since when, until when and why.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(settings),
        "channels": {_id(topic): _channel(topic, settings) for topic in load()},
        "operations": dict(
            operation for topic in load() for operation in _operations(topic, settings)
        ),
        "components": {
            "messages": {
                _message_id(message_type): _message(message_type) for message_type in MESSAGE_TYPES
            },
            "schemas": _schemas(),
        },
    }


def _servers(settings: Settings) -> dict[str, Any]:
    hosts = [host.strip() for host in settings.kafka.bootstrap_servers.split(",")]
    return {
        _SERVER + (f"-{number}" if number else ""): {
            "host": host,
            "protocol": "kafka",
            "description": "A broker of the cluster of this deployment.",
        }
        for number, host in enumerate(hosts)
    }


def _id(topic: Topic) -> str:
    # Words in braces would be parameters of the channel.
    return topic.name if "{" not in topic.name else topic.name.partition("{")[0].strip("_")


def _channel(topic: Topic, settings: Settings) -> dict[str, Any]:
    return {
        "address": topic.on_cluster(settings),
        "title": topic.on_cluster(settings),
        "description": f"{topic.purpose}. Key: {topic.key}.",
        "messages": {
            message_type.name: {"$ref": f"#/components/messages/{_message_id(message_type)}"}
            for message_type in message_types_of(topic.name)
        },
        "bindings": {
            "kafka": {
                "topic": topic.on_cluster(settings),
                "partitions": topic.partition_count(settings),
                "replicas": settings.kafka.replication_factor,
                "topicConfiguration": {
                    name: _config(name, topic.config[name])
                    for name in _OF_TOPICS
                    if name in topic.config
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _config(name: str, value: str) -> Any:
    if name == "cleanup.policy":
        return value.split(",")
    return int(value) if value.lstrip("-").isdigit() else value


def _operations(topic: Topic, settings: Settings) -> list[tuple[str, dict[str, Any]]]:
    """The send and receive operations of a topic, by party."""
    found = []
    for action, parties in (("send", topic.writers), ("receive", topic.readers)):
        for party in parties:
            message_types = [
                message_type
                for message_type in message_types_of(topic.name)
                if action == "receive"
                or message_type.writers is None
                or party in message_type.writers
            ]
            channel = f"#/channels/{_id(topic)}"
            operation: dict[str, Any] = {
                "action": action,
                "channel": {"$ref": channel},
                "summary": f"{party}: {action} {_id(topic)}",
                "tags": [{"name": party}],
                "messages": [
                    {"$ref": f"{channel}/messages/{message_type.name}"}
                    for message_type in message_types
                ],
            }
            if action == "receive" and party in _GROUPS:
                group = {"type": "string", "enum": [settings.group(party)]}
                operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": _BINDING}}
            found.append((f"{party.replace(' ', '_')}.{action}.{_id(topic)}", operation))
    return found


# Sidecars and other services read without a group, or with one of their own.
_GROUPS = ("router", "users", "shards", "history")


def _message_id(message_type: MessageType) -> str:
    return f"{message_type.topic.partition('{')[0].strip('_')}.{message_type.name}"


# The field with the command id. A CloudEvent has none if the id is derived from the event's.
_CORRELATION = {
    COMMANDS_TOPIC: "/id",
    RESULTS_TOPIC: "/command_id",
}


def _message(message_type: MessageType) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": message_type.name,
        "title": message_type.name,
        "summary": message_type.description(),
        "contentType": message_type.content_type,
    }
    if message_type.headers is not None:
        message["headers"] = {"$ref": _ref(message_type.headers.__name__)}
    if message_type.value is not None:
        message["payload"] = {"$ref": _ref(message_type.value.__name__)}
    elif message_type.content_type == BYTES_CONTENT_TYPE:
        message["payload"] = {"type": "string", "format": "binary"}
    field = _CORRELATION.get(message_type.topic)
    if field is not None and message_type.name != "cloud_event":
        message["correlationId"] = {
            "description": "The command's id: a result is for the command with the same one.",
            "location": f"$message.payload#{field}",
        }
    binding = {"bindingVersion": _BINDING}
    message["bindings"] = {
        "kafka": binding if message_type.key is None else {"key": message_type.key, **binding}
    }
    examples = [
        ({} if example.headers is None else {"headers": example.headers})
        | {"payload": example.payload}
        for example in EXAMPLES.get((message_type.topic, message_type.name), ())
    ]
    return message | ({"examples": examples} if examples else {})


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


def _schemas() -> dict[str, Any]:
    """The schemas of all models by name, compatible with JSON Schema draft 07."""
    models = dict.fromkeys(
        model
        for message_type in MESSAGE_TYPES
        for model in (message_type.value, message_type.headers)
        if model is not None
    )
    _, generated = models_json_schema(
        [(model, MODE) for model in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=Generator,
    )
    schemas: dict[str, Any] = _as_draft_07(generated["$defs"])
    return schemas


def _as_draft_07(schema: Any) -> Any:
    """Convert a 2020-12 schema to draft 07, on which AsyncAPI is based: tuples differ."""
    if isinstance(schema, list):
        return [_as_draft_07(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: _as_draft_07(value) for name, value in schema.items()}
    if (tuple_of := converted.pop("prefixItems", None)) is not None:
        converted |= {"items": tuple_of, "additionalItems": False}
    return converted
