"""The RocksDB view of users, segments and results that answers queries."""
