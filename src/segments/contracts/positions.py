"""Positions in the shard log."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """`partition:offset` of the shard log."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse `partition:offset`; ValueError for anything else."""
        partition, _, offset = text.partition(":")
        return cls(int(partition), int(offset))
