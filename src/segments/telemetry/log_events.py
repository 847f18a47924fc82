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
    # shards, router and the view
    "record_not_processed": "processing a record failed; the process exits",
    "shard_ready": "the state of a shard is restored; `rebuild_ms` is the time to build its "
    "index of users",
    "state_damaged": "the state of a shard is corrupt; it is restored from the changelog",
    "tick_not_appended": "a tick could not be appended to the log of a shard",
    "view_complete": "the view has read every topic up to its end",
    "view_consumer_error": "the consumer of the view reports an error and retries",
    "view_consumer_failed": "the consumer of the view has stopped; the sidecar is not ready",
    "view_rebuild_started": "the view is rebuilt from the topics",
    # http
    "api_keys_loaded": "the API keys were read",
    "api_keys_unreadable": "the API keys could not be read; the previous ones stay valid",
    "history_unavailable": "the history store could not be read; the request got 503",
    "http_ready": "the sidecar listens",
    "jwk_ignored": "a key of the JWK Set cannot be used",
    "jwks_loaded": "the keys for tokens were read",
    "jwks_unavailable": "the keys for tokens could not be loaded; the previous ones stay valid",
    "no_api_keys": "no API key exists, so every request is rejected",
    "open_files_limit_too_low": "the limit on open files is too low for http.max_connections",
    "records_not_delivered": "records were not delivered to Kafka before shutdown",
    "request_failed": "an unexpected error; the request got 500",
    "response_aborted": "a streamed response was aborted, and its connection closed",
    "response_failed": "a streamed response failed unexpectedly, and its connection was closed",
    "user_state_set": "the state of a user was set through /dev/users",
    "users_imported": "a request to /dev/users/import has ended",
    # reports
    "report_attempt_failed": "an attempt to deliver a report failed; it is retried",
    "report_delivered": "a report was delivered to its destination",
    "report_job_abandoned": "a report job was left in its state after an unexpected error",
    "report_job_crashed": "a report job failed with an unexpected error",
    "report_job_not_requeued": "a report job could not be put back into the queue",
    "report_job_result_not_stored": "the end of a report job could not be stored; it is retried",
    "report_job_waiting": "a report job waits for its next attempt or for the history store",
    "report_jobs_requeued": "unfinished report jobs of the previous process are queued again",
    "report_jobs_reset": "the job store was unreadable; it was set aside and created anew",
    "report_jobs_unavailable": "the job store could not be read or written; it is retried",
    "report_leftover_not_removed": "the remains of an upload could not be removed",
    "report_not_delivered": "a report job failed after all its attempts",
}
