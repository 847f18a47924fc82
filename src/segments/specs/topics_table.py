"""topics.yaml as a Markdown table and a plain-text diagram, for the documentation."""

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
    """A Markdown table with a row per topic."""
    rows = [
        (f"`{_name(topic)}`", topic.key, topic.value, kept(topic), topic.purpose)
        for topic in load()
    ]
    lines = [_HEADINGS, tuple("---" for _ in _HEADINGS), *rows]
    # Markdown would interpret angle brackets as HTML.
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("<", r"\<")


def _name(topic: Topic) -> str:
    """The name on a cluster without a prefix."""
    return re.sub(r"\{group:(\w+)\}", r"segments-\1", topic.name)


def kept(topic: Topic) -> str:
    """Retention, compaction and timestamp type of a topic."""
    parts = []
    for key, value in topic.config.items():
        if key == "retention.ms":
            parts.append(f"{int(value) / 86_400_000:g} days")
        elif (word := _POLICY.get(f"{key}={value}")) is not None:
            parts.append(word)
    return ", ".join(parts)


def diagram() -> str:
    """A line per topic: writers, topic, readers."""
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
