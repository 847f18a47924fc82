"""Topic constants against topics.yaml."""

from __future__ import annotations

from segments.contracts import topics
from segments.kafka.topics import load


def test_constants_match_topics_yaml() -> None:
    constants = {value for name, value in vars(topics).items() if name.endswith("_TOPIC")}
    # The only other one is the shards' changelog, whose name depends on the consumer group.
    assert constants == {topic.name for topic in load() if not topic.name.startswith("changelog")}
