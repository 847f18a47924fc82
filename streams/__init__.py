"""The Quix Streams applications: router, users, shards, history (design 1)."""
