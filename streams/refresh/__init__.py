"""Refreshes the replica of the user accounts from the user service."""
