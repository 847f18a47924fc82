"""State and the decisions on it: the shard's state machine, the stores, the query side's view."""
