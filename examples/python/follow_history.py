"""Follow who gets and loses which segment, from the beginning of the history.

    pip install confluent-kafka
    python follow_history.py [USER_ID]

Prints a line a change: all changes, or those of one user, until Ctrl-C. A consumer group keeps the
place: the next start goes on from there. KAFKA_BROKERS and TOPIC_PREFIX say where the topic is.
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
            # The default of this client: what a transaction gave up is not seen.
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
            # Partition and offset name a change once and for all: a reader that gets one twice,
            # after a crash of its own, knows it by them.
            place = f"{message.partition()}:{message.offset()}"
            row = json.loads(message.value())
            if user_id in (None, row["user_id"]):
                fields = (row["at"], row["user_id"], row["operation"], row["segment"], row["cause"])
                print(place, *fields, flush=True)
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        consumer.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
