"""CloudEvents 1.0 over Kafka."""
