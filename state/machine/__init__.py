"""The deterministic state machine of one shard."""
