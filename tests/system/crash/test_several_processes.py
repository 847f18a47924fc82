"""Two shards and two http processes over the same partitions."""

from __future__ import annotations

import uuid
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from segments.contracts.partitioning import partition_of
from tests.support import deployments
from tests.support.crash.cluster import Cluster, start_cluster
from tests.support.crash.crash_run import compare_outputs
from tests.support.crash.settle import wait_until_settled
from tests.support.crash.topic_tails import TopicTails
from tests.support.crash.traffic import SEGMENTS, Traffic

PROCESSES = ["router", "users", "history", "shards-0", "shards-1", "http-0", "http-1"]
COMMANDS_PER_S = 60.0
MOVED_TIMEOUT_S = 60.0
# Another process takes over the shards of a killed one after its session timeout.
WAIT = {"Prefer": "wait=30"}


class Group:
    """The assignment of partitions to shards processes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._all = set(range(cluster.settings.partitions))

    def wait_for(self, *instances: int) -> None:
        """Wait until exactly these instances share all partitions, each with at least one."""

        def shared() -> bool:
            self._cluster.restart_exited()
            members = self._cluster.members("shards")
            assert members.keys() == set(instances), f"members: {members}"
            assert all(members.values()), f"a member has no partition: {members}"
            assert set().union(*members.values()) == self._all, f"unassigned partitions: {members}"
            return sum(map(len, members.values())) == len(self._all)

        deployments.wait_until(shared, MOVED_TIMEOUT_S, f"partitions at {instances}", poll_s=0.2)


class Writer:
    """Writes through one http process and reads the result through both."""

    def __init__(self, cluster: Cluster, traffic: Traffic) -> None:
        self._cluster = cluster
        self._traffic = traffic
        self._clients = [
            httpx.Client(base_url=cluster.url(name), timeout=60, headers=WAIT, trust_env=False)
            for name in ("http-0", "http-1")
        ]
        self._users = [str(uuid.UUID(int=n)) for n in range(1, 1000)]
        self._segments = [SEGMENTS[0], SEGMENTS[1]]

    def write_and_read_everywhere(self) -> None:
        """One change in each partition, through either http process in turn."""
        for partition in range(self._cluster.settings.partitions):
            user_id = next(
                u
                for u in self._users
                if partition_of(u, self._cluster.settings.partitions) == partition
            )
            self._users.remove(user_id)
            # A user that the user service does not know would be deleted by the refresh.
            self._cluster.user_service.put(user_id, "active")
            self._traffic.states[user_id] = "active"
            self._write_and_read(user_id, writes_to=partition % 2)

    def _write_and_read(self, user_id: str, writes_to: int) -> None:
        result = self._patch(self._clients[writes_to], user_id)
        assert result["status"] == "applied", result
        answers = [self._read(client, user_id, result["position"]) for client in self._clients]
        assert answers[0] == answers[1]
        assert [held["segment"] for held in answers[0]["segments"]] == self._segments

    def _patch(self, client: httpx.Client, user_id: str) -> Any:
        command_id = str(uuid.uuid4())
        command = {"user_id": user_id, "add": self._segments, "remove": []}
        self._traffic.commands[command_id] = {
            "type": "change_memberships",
            "id": command_id,
            **command,
        }
        response = client.patch(
            f"/v1/users/{user_id}/segments",
            json={"add": self._segments, "remove": []},
            headers={"Idempotency-Key": command_id},
        )
        assert response.status_code == 200, response.text
        return response.json()

    def _read(self, client: httpx.Client, user_id: str, position: str) -> Any:
        response = client.get(
            f"/v1/users/{user_id}/segments", headers={"Segments-Min-Position": position}
        )
        assert response.status_code == 200, response.text
        return response.json()

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.mark.timeout(400)
def test_partitions_move_when_a_process_stops_is_killed_or_frozen(
    broker: str, tmp_path: Path
) -> None:
    with start_cluster(tmp_path, PROCESSES, bootstrap_servers=broker) as cluster:
        tails = TopicTails(cluster.settings)
        traffic = Traffic(cluster.settings, cluster.user_service, 1, COMMANDS_PER_S)
        cluster.start(*cluster.names)
        group, writer = Group(cluster), Writer(cluster, traffic)
        with traffic.sending():
            group.wait_for(0, 1)
            for name in ("http-0", "http-1"):
                deployments.wait_until(partial(cluster.ready, name), what=name)
            writer.write_and_read_everywhere()

            cluster.stop("shards-1")
            writer.write_and_read_everywhere()
            group.wait_for(0)
            cluster.start("shards-1")
            group.wait_for(0, 1)
            writer.write_and_read_everywhere()

            cluster.kill("shards-0")
            cluster.kill("http-1")
            cluster.start("http-1")
            deployments.wait_until(lambda: cluster.ready("http-1"), what="http-1")
            writer.write_and_read_everywhere()
            group.wait_for(1)
            cluster.start("shards-0")
            group.wait_for(0, 1)

            cluster.freeze("shards-1")
            writer.write_and_read_everywhere()
            group.wait_for(0)
            cluster.thaw("shards-1")
            group.wait_for(0, 1)
            writer.write_and_read_everywhere()
        writer.close()
        wait_until_settled(cluster, traffic, tails)
        wrong, digests = compare_outputs(cluster, tails, traffic)
        tails.close()
    assert wrong == []
    assert digests >= cluster.settings.partitions
