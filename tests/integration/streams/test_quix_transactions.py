"""Exactly-once processing when a process is killed before the commit or paused too long."""

from __future__ import annotations

import signal
import sys
from collections import Counter

from segments.settings import Settings
from tests.support import deployments, quix_apps
from tests.support.records import read

PARTITION = 1
_DIES_BEFORE_ITS_COMMIT = """
import os, signal
from quixstreams.internal_producer import InternalProducer
from segments.settings import Settings
from segments.streams import shards

commit = InternalProducer.commit_transaction

def die(self, positions, *arguments, **options):
    if any(tp.partition == 1 and tp.offset >= 2 for tp in positions):
        self.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, positions, *arguments, **options)

InternalProducer.commit_transaction = die
shards.run(Settings())
"""


def test_uncommitted_outputs_are_invisible_and_produced_again(
    deployment: Settings,
) -> None:
    [user] = quix_apps.users_of(deployment, PARTITION, 1)
    quix_apps.define(deployment, "A")
    quix_apps.change(deployment, user, "c", "A")

    dies = deployments.start_command(
        deployment, "dies", [sys.executable, "-c", _DIES_BEFORE_ITS_COMMIT]
    )
    assert dies.wait(60) == -signal.SIGKILL
    assert len(read(deployment, "segments.history", committed_only=False)) == 1
    assert read(deployment, "segments.history") == []
    assert read(deployment, "segments.results") == []

    deployments.start(deployment, "shards")
    deployments.wait_until(lambda: read(deployment, "segments.results"), what="the result")
    [row] = read(deployment, "segments.history")
    assert row.partition == PARTITION
    assert row.json["user_id"] == user
    aborted_and_committed = read(deployment, "segments.history", committed_only=False)
    assert len(aborted_and_committed) == 2


def test_a_paused_process_does_not_repeat_work(deployment: Settings) -> None:
    """Its partitions were given to another one while it believed that they were its own."""
    second = deployment.model_copy(update={"instance": 1})
    quix_apps.define(deployment, "A")
    _change_all(deployment, "before")
    first = deployments.start(deployment, "shards")
    _wait_for_results(deployment, "before")

    first.signal(signal.SIGSTOP)
    _change_all(deployment, "while")
    deployments.start(second, "shards")
    _wait_for_results(deployment, "while")
    first.signal(signal.SIGCONT)
    _change_all(deployment, "after")
    _wait_for_results(deployment, "after")

    results = Counter(record.key for record in read(deployment, "segments.results"))
    assert set(results.values()) == {1}
    rows = Counter(record.json["command_id"] for record in read(deployment, "segments.history"))
    assert set(rows.values()) == {1}


def _change_all(settings: Settings, word: str) -> None:
    """A change of one new user in each shard."""
    number = {"before": 0, "while": 1, "after": 2}[word]
    for partition in range(settings.partitions):
        user = quix_apps.users_of(settings, partition, 3)[number]
        quix_apps.change(settings, user, f"{word}-{partition}", "A")


def _wait_for_results(settings: Settings, word: str) -> None:
    wanted = {f"{word}-{partition}".encode() for partition in range(settings.partitions)}

    def came() -> bool:
        return wanted <= {record.key for record in read(settings, "segments.results")}

    deployments.wait_until(came, what=f"the results of {sorted(wanted)}", poll_s=0.2)
