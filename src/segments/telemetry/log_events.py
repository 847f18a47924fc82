"""The catalogue of log events: event -> what it means, as docs/operations.md lists them.

An event is a stable snake_case identifier; reasons, hints and values are fields of the entry.
"""

from __future__ import annotations

EVENTS: dict[str, str] = {
    # segments up, the supervisor and the embedded Kafka
    "deployment_not_ready": "the sidecar was not ready in time; the processes keep running",
    "deployment_ready": "every process has started and the sidecar is ready",
    "deployment_stopping": "a signal was received; the processes are stopped in order",
    "kafka_not_responding": "the embedded Kafka does not respond yet; the connection is retried",
    "kafka_ready": "the embedded Kafka accepts clients",
    "kafka_stopped": "the embedded Kafka has stopped after a signal",
    "process_exited": "a process exited; the supervisor restarts it after `delay_s`",
    "process_killed": "a process did not stop within the grace period and was killed",
    "topics_applied": "the topics exist as configured; `created` of them are new",
    # users
    "user_given_up": "fetching a user failed for user_service.give_up_after_s while others "
    "succeeded; the refresh is in the dead letter queue",
    "user_service_not_configured": "only refreshes that carry a state can be processed",
    "user_service_recovered": "the user service responds again after `attempts` failed batches",
    "user_service_unavailable": "no fetch succeeds; the batch is held back and retried",
    # uploads of reports
    "upload_cleanup_failed": "the remains of a failed upload could not be removed; the next "
    "attempt tries again",
}
