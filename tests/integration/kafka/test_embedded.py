"""The embedded Kafka: its jars, its port, its shutdown."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from segments.kafka import jars as kafka_jars
from segments.kafka.access import KafkaError
from segments.kafka.embedded import EmbeddedKafka, embedded_port
from segments.process.ports import PortInUseError, free_port
from segments.settings import Settings
from tests.support.deployments import gone, start_command, stop_all, wait_until

CLI = [sys.executable, "-m", "segments.cli"]


@pytest.fixture
def jars(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    folder = tmp_path / f"kafka-{kafka_jars.KAFKA_VERSION}"
    folder.mkdir()
    expected = {}
    for name in ("one-1.0.jar", "two-2.0.jar"):
        (folder / name).write_bytes(name.encode())
        expected[name] = hashlib.sha256(name.encode()).hexdigest()
    return folder, expected


def test_intact_jars_pass(jars: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, expected = jars
    assert kafka_jars.ensure(tmp_path, expected) == folder


def test_a_corrupted_jar_is_named_with_the_remedy(
    jars: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, expected = jars
    (folder / "two-2.0.jar").write_bytes(b"other")
    with pytest.raises(kafka_jars.JarsError, match=r"two-2\.0\.jar is corrupted") as caught:
        kafka_jars.ensure(tmp_path, expected)
    assert "one-1.0.jar" not in str(caught.value)
    assert f"Remove {folder}" in str(caught.value)


def test_missing_and_foreign_jars_are_named(jars: tuple[Path, dict[str, str]]) -> None:
    folder, expected = jars
    (folder / "one-1.0.jar").rename(folder / "three-3.0.jar")
    with pytest.raises(kafka_jars.JarsError) as caught:
        kafka_jars.verify(folder, expected)
    assert "one-1.0.jar is missing" in str(caught.value)
    assert "three-3.0.jar is not in jars.lock" in str(caught.value)


def test_the_broker_does_not_start_on_a_corrupted_jar(tmp_path: Path) -> None:
    shutil.copytree(kafka_jars.ensure(), tmp_path / f"kafka-{kafka_jars.KAFKA_VERSION}")
    victim = next(tmp_path.glob("*/kafka-clients-*.jar"))
    with victim.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\0\0\0")
    broker = EmbeddedKafka(tmp_path, jars_root=tmp_path)
    with pytest.raises(kafka_jars.JarsError, match=re.escape(victim.name)):
        broker.start()
    assert broker.exit_status() is None


def test_the_lock_names_kafka_with_its_version() -> None:
    locked = kafka_jars.locked_jars()
    assert f"kafka_2.13-{kafka_jars.KAFKA_VERSION}.jar" in locked
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in locked.values())


def test_a_port_in_use_is_named_with_the_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port} .*KAFKA__BOOTSTRAP_SERVERS"):
            EmbeddedKafka(tmp_path, port).start()
    assert not (tmp_path / "kafka").exists()


def test_the_embedded_broker_stays_on_loopback() -> None:
    elsewhere = Settings(kafka={"bootstrap_servers": "kafka.example:9092"})
    with pytest.raises(KafkaError, match="loopback only"):
        embedded_port(elsewhere)


def test_records_survive_a_crash_of_the_broker(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as kafka:
        config = {"bootstrap.servers": kafka.bootstrap_servers}
        admin = AdminClient(config)
        for future in admin.create_topics([NewTopic("kept", 1, 1)]).values():
            future.result(timeout=30)
        producer = Producer(config)
        producer.produce("kept", b"value")
        assert producer.flush(30) == 0
        before = kafka.bootstrap_servers
        kafka.kill()
        kafka.start()
        assert kafka.bootstrap_servers == before
        consumer = Consumer(config | {"group.id": "test"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        message = wait_until(lambda: consumer.poll(0.2), what="the record")
        assert message.value() == b"value"
        consumer.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_segments_kafka_leaves_no_java_process_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    settings = Settings(
        data_dir=tmp_path / "data",
        kafka={"bootstrap_servers": f"127.0.0.1:{port}"},
    )
    try:
        process = start_command(settings, "kafka", [*CLI, "kafka"])
        wait_until(lambda: "kafka_ready" in process.log(), what="the broker")
        [java] = psutil.Process(process.pid).children(recursive=True)
        process.signal(number)
        assert process.wait() == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        wait_until(lambda: gone(java.pid), what="the end of java")
    finally:
        stop_all(settings.data_dir)
