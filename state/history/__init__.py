"""The history store: every membership change, kept for reports and past states."""
