"""Names of the topics, as in topics.yaml; `Settings.topic` gives the name on the cluster."""

from __future__ import annotations

COMMANDS_TOPIC = "segments.commands"
USER_EVENTS_TOPIC = "users.events"
REFRESHES_TOPIC = "users.refreshes"
SHARDS_TOPIC = "segments.shards"
USERS_TOPIC = "segments.users"
DEFINITIONS_TOPIC = "segments.definitions"
RESULTS_TOPIC = "segments.results"
HISTORY_TOPIC = "segments.history"
DLQ_TOPIC = "segments.dlq"

PROGRESS_KEY_PREFIX = "!progress/"
"""In `USERS_TOPIC`: `!progress/<partition>` is the key of a partition's progress marker."""
