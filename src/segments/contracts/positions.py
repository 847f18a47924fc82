"""Positions in the shard log."""

from __future__ import annotations

from typing import NamedTuple


def format_position(partition: int, offset: int) -> str:
    """`partition:offset`."""
    return f"{partition}:{offset}"


class Position(NamedTuple):
    """`partition:offset` of the shard log."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return format_position(self.partition, self.offset)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse `partition:offset`; ValueError for anything else."""
        partition, _, offset = text.partition(":")
        return cls(int(partition), int(offset))
