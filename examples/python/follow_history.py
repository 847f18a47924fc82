"""Follow membership changes from the beginning of the history.

    pip install confluent-kafka
    python follow_history.py [USER_ID]

Prints one line per change, of all users or of one, until Ctrl-C. A consumer group stores the
offsets: the next start resumes there. KAFKA_BROKERS and TOPIC_PREFIX locate the topic.
"""

import json
import os
import sys

from confluent_kafka import Consumer

BROKERS = os.environ.get("KAFKA_BROKERS", "127.0.0.1:19092")
TOPIC = os.environ.get("TOPIC_PREFIX", "") + "segments.history"
GROUP = os.environ.get("GROUP", "example-history")


def main(user_id: str | None) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            # This client's default: records of aborted transactions are not delivered.
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([TOPIC])
    try:
        while True:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            # Partition and offset identify a change: use them to skip changes that are delivered
            # again after a crash of this program.
            place = f"{message.partition()}:{message.offset()}"
            row = json.loads(message.value())
            if user_id in (None, row["user_id"]):
                fields = (row["at"], row["user_id"], row["operation"], row["segment"], row["cause"])
                print(place, *fields, flush=True)
    except KeyboardInterrupt:
        pass  # Ctrl-C ends the program
    finally:
        consumer.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
