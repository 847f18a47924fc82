"""Refreshing the replica of the users from the user service."""
