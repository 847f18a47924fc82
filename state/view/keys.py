"""Keys of the view's RocksDB: one prefix per type of entry, so that each type is one range.

| prefix | key                                   | value                              |
|--------|---------------------------------------|------------------------------------|
| `u`    | user id, 16 bytes                     | the user's document, as consumed   |
| `a`    | user id, 16 bytes                     | encoded response about the user    |
| `m`    | segment, 0, generation, user id       | see `members`                      |
| `c`    | segment, 0, generation                | number of members, as text         |
| `h`    | segment, 0, generation                | automatic members, as text         |
| `s`    | segment                               | its definition, as consumed        |
| `r`    | command id                            | append time (ms), its result       |
| `x`    | append time (ms), command id          | empty: index of results by age     |
| `p`    | partition                             | its newest progress marker         |
| `d`    | partition                             | offset of its newest definition    |
| `o`    | topic, 0, partition                   | next offset to consume, as text    |
| `!`    | `identity`, `complete`                | source topics, whether filled      |
"""

from __future__ import annotations

from segments.contracts.user_ids import pack

IDENTITY_KEY = b"!identity"
COMPLETE_KEY = b"!complete"
USER_RANGE = b"u"
RESPONSE_RANGE = b"a"
MEMBER_RANGE = b"m"
SIZE_RANGE = b"c"
CHOSEN_RANGE = b"h"
DEFINITION_RANGE = b"s"
RESULT_RANGE = b"r"
RESULT_AGE_RANGE = b"x"
MARKER_RANGE = b"p"
DEFINED_RANGE = b"d"
OFFSET_RANGE = b"o"


def user_key(user_id: str) -> bytes:
    """Key of a user's document; `user_id` is canonical."""
    return USER_RANGE + pack(user_id)


def response_key(user: bytes) -> bytes:
    """Key of the stored response about a user; `user` is a `user_key`."""
    return RESPONSE_RANGE + user[1:]


def size_key(segment: str, generation: int) -> bytes:
    return SIZE_RANGE + _generation(segment, generation)


def chosen_key(segment: str, generation: int) -> bytes:
    return CHOSEN_RANGE + _generation(segment, generation)


def members_prefix(segment: str, generation: int) -> bytes:
    """Common prefix of the member keys of a generation."""
    return MEMBER_RANGE + _generation(segment, generation)


def parse_size_key(key: bytes) -> tuple[str, int]:
    """(segment, generation) of a `size_key` or `chosen_key`."""
    return key[1:-5].decode(), int.from_bytes(key[-4:], "big")


def member_key(segment: str, generation: int, user: bytes) -> bytes:
    """Key of the membership index; `user` is a `user_key`."""
    return MEMBER_RANGE + _generation(segment, generation) + user[1:]


def definition_key(segment: str) -> bytes:
    return DEFINITION_RANGE + segment.encode()


def result_key(command_id: str) -> bytes:
    return RESULT_RANGE + command_id.encode()


def result_age_key(at_ms: int, command_id: bytes) -> bytes:
    return RESULT_AGE_RANGE + at_ms.to_bytes(8, "big") + command_id


def marker_key(partition: int) -> bytes:
    return MARKER_RANGE + partition.to_bytes(4, "big")


def defined_key(partition: int) -> bytes:
    return DEFINED_RANGE + partition.to_bytes(4, "big")


def offset_key(topic: str, partition: int) -> bytes:
    return OFFSET_RANGE + topic.encode() + b"\0" + partition.to_bytes(4, "big")


def parse_offset_key(key: bytes) -> tuple[str, int]:
    """(topic, partition) of an `offset_key`."""
    return key[1:-5].decode(), int.from_bytes(key[-4:], "big")


def _generation(segment: str, generation: int) -> bytes:
    # Segment names contain no zero byte, so no name is a prefix of another's range.
    return segment.encode() + b"\0" + generation.to_bytes(4, "big")
