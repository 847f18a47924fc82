"""RocksDB persistence of shard state as a Quix Streams store."""
