"""Kafka-native segmentation service: which users are members of which segments, and why."""

__version__ = "0.1.0"
