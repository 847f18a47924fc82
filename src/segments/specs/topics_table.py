"""topics.yaml for readers: a table and a picture in plain text, as they stand in the documents."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segments.kafka.topics import Topic, load

_POLICY = {
    "cleanup.policy=compact": "compacted",
    "message.timestamp.type=LogAppendTime": "LogAppendTime",
}
_HEADINGS = ("topic", "key", "value", "kept", "what it carries")


def table() -> str:
    """Every topic as a row of a Markdown table."""
    rows = [
        (f"`{_name(topic)}`", topic.key, topic.value, kept(topic), topic.purpose)
        for topic in load()
    ]
    lines = [_HEADINGS, tuple("---" for _ in _HEADINGS), *rows]
    # What stands in angle brackets would be taken for HTML.
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("<", r"\<")


def _name(topic: Topic) -> str:
    """Its name on a cluster where no prefix is set."""
    return re.sub(r"\{group:(\w+)\}", r"segments-\1", topic.name)


def kept(topic: Topic) -> str:
    """What becomes of its records in time, and whose time stands in them."""
    parts = []
    for key, value in topic.config.items():
        if key == "retention.ms":
            parts.append(f"{int(value) / 86_400_000:g} days")
        elif (word := _POLICY.get(f"{key}={value}")) is not None:
            parts.append(word)
    return ", ".join(parts)


def diagram() -> str:
    """A line a topic: who writes it, the topic, who reads it."""
    writers = _padded([", ".join(topic.writers) for topic in load()])
    names = _padded([_name(topic) for topic in load()])
    readers = [", ".join(topic.readers) for topic in load()]
    return "".join(
        f"{left} ──▶ {name} ──▶ {right}\n"
        for left, name, right in zip(writers, names, readers, strict=True)
    )


def _padded(cells: Sequence[str]) -> list[str]:
    width = max(map(len, cells))
    return [cell.ljust(width) for cell in cells]
