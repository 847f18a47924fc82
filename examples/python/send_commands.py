"""Send commands to the segmentation service and wait for their results.

    pip install confluent-kafka
    python send_commands.py USER_ID

Creates a segment, adds the user to it for a week, creates another one for half of all users, and
prints the result of each command as a line of JSON. It uses none of the service's code: the topics
are the contract. KAFKA_BROKERS and TOPIC_PREFIX locate them.
"""

import json
import os
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

BROKERS = os.environ.get("KAFKA_BROKERS", "127.0.0.1:19092")
PREFIX = os.environ.get("TOPIC_PREFIX", "")
COMMANDS, RESULTS = PREFIX + "segments.commands", PREFIX + "segments.results"
TIMEOUT_S = 60


def at_the_end(topic: str) -> Consumer:
    """A consumer that starts at the current end of every partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": "example-results",
            "enable.auto.commit": False,
        }
    )
    ends = []
    for number in consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions:
        partition = TopicPartition(topic, number)
        _, end = consumer.get_watermark_offsets(partition, timeout=TIMEOUT_S)
        ends.append(TopicPartition(topic, number, end))
    consumer.assign(ends)
    return consumer


def commands_for(user_id: str) -> list[dict[str, object]]:
    segment = f"example-{uuid.uuid4().hex[:8]}"
    # Repeating an id changes nothing, so a command can be sent again when in doubt.
    return [
        {"type": "create_segment", "id": str(uuid.uuid4()), "segment": segment},
        # No need to wait: a command that names a new segment is deferred until it is defined.
        {
            "type": "change_memberships",
            "id": str(uuid.uuid4()),
            "actor": "example",
            "user_id": user_id,
            "add": [{"segment": segment, "ttl": "P7D"}],
        },
        {
            "type": "create_segment",
            "id": str(uuid.uuid4()),
            "segment": f"{segment}-half",
            "auto": {"percent": 50},
        },
    ]


def main(user_id: str) -> int:
    results = at_the_end(RESULTS)
    producer = Producer({"bootstrap.servers": BROKERS})
    waiting: set[str] = set()
    for command in commands_for(user_id):
        # Commands with the same key keep their order.
        key = command.get("user_id") or command["segment"]
        producer.produce(COMMANDS, json.dumps(command).encode(), key)
        waiting.add(str(command["id"]))
    if producer.flush(TIMEOUT_S) > 0:
        print("Kafka did not accept the commands", file=sys.stderr)
        return 1
    deadline = time.monotonic() + TIMEOUT_S
    while waiting and time.monotonic() < deadline:
        message = results.poll(1)
        if message is None or message.error():
            continue
        result = json.loads(message.value())
        if result["command_id"] in waiting:
            waiting.remove(result["command_id"])
            print(json.dumps(result), flush=True)
    results.close()
    if waiting:
        print(f"no result of {', '.join(sorted(waiting))}", file=sys.stderr)
    return 1 if waiting else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python send_commands.py USER_ID")
    sys.exit(main(sys.argv[1]))
