"""Checks before a shards process joins its group."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from segments.settings import Settings
from segments.streams import startup_checks


class _Consumer:
    """Fails `failures` times, then returns one committed offset."""

    def __init__(self, code: int, failures: int) -> None:
        self._error = KafkaException(KafkaError(code))
        self._failures = failures

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self._failures:
            self._failures -= 1
            raise self._error
        partitions[0].offset = 7
        return partitions


def committed(code: int, failures: int) -> dict[int, int | None]:
    consumer: Any = _Consumer(code, failures)
    return startup_checks.committed_offsets(consumer, Settings(partitions=2))


@pytest.mark.parametrize("code", startup_checks._COORDINATOR_MOVES)
def test_committed_offsets_are_retried_while_the_broker_starts(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup_checks, "_RETRY_S", 0)
    assert committed(code, failures=3) == {0: 7, 1: None}


def test_other_and_persistent_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KafkaException):
        committed(KafkaError.GROUP_AUTHORIZATION_FAILED, failures=1)
    monkeypatch.setattr(startup_checks, "REQUEST_TIMEOUT_S", -1)
    with pytest.raises(KafkaException):
        committed(KafkaError.NOT_COORDINATOR, failures=1_000)
