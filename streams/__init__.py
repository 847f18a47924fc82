"""The Quix Streams applications: router, users, shards, history."""

import warnings

# A dependency of the unused schema registry client emits a warning on import.
with warnings.catch_warnings(record=True):
    import quixstreams as _quixstreams  # noqa: F401
