"""The Quix Streams applications: router, users, shards, history."""

import warnings

# A library of the schema registry's client, unused here, insists on a warning at import.
with warnings.catch_warnings(record=True):
    import quixstreams as _quixstreams  # noqa: F401
