"""Kafka-native segmentation service: who is in which segment, and why."""

__version__ = "0.1.0"
