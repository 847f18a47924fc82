"""Bodies of HTTP responses."""
