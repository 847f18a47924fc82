"""State: the shard's state machine, its store, the view of the sidecar, and the history store."""
