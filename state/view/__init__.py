"""The query side's RocksDB view of users, segments and results."""
