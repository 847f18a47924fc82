"""Documents of a shard's state as stored, and their keys.

Plain dictionaries, for speed: they are read and written by the hundred thousand, and stored as JSON
both in RocksDB and in the changelog. All instants and durations are in milliseconds.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Literal, NotRequired, Protocol, TypedDict

import orjson
from pyroaring import BitMap

from segments.contracts.auto import AutoRule
from segments.contracts.documents import Origin, ResultStatus
from segments.contracts.events import AccountState

SHARD_KEY = b"m"
USER_PREFIX = b"u"
KNOWN_SEGMENT_PREFIX = b"s"
HOME_PREFIX = b"h"
JOB_PREFIX = b"j"
ASSIGNMENT_PREFIX = b"a"
PREVIEW_PREFIX = b"p"
DEFERRED_SURVEY_PREFIX = b"q"

DefinitionState = Literal["active", "assigning", "deleted"]


class MembershipState(TypedDict):
    """Membership of a user; same shape as in the public document."""

    since: int
    expires_at: int | None
    origin: Origin
    generation: int


class Outcome(TypedDict):
    """Outcome of a command, stored by its id: a repeated id gets the same result.

    See `deduplication`.
    """

    status: ResultStatus
    error: dict[str, Any] | None
    changes: list[list[str]]
    offset: int
    at: int


class DeferredChange(TypedDict):
    """Change that waits for the definition of a segment. `at`: log time of its record."""

    change: dict[str, Any]
    offset: int
    at: int
    deadline: int


class StoredUser(TypedDict):
    """State of one user. `due`: see `memberships.due_ms`. `parked`: deferred changes, oldest first.

    `pins`: segment -> generation; the user is opted out of its automatic assignment.
    """

    ordinal: int
    account: AccountState
    version: int | None
    refresh: list[Any] | None
    segments: dict[str, MembershipState]
    outcomes: dict[str, str]
    parked: list[DeferredChange]
    due: int | None
    offset: int
    at: int
    pins: NotRequired[dict[str, int]]


class KnownSegment(TypedDict):
    """Newest definition of a segment known to a shard."""

    generation: int
    version: int
    state: DefinitionState
    auto: NotRequired[KnownRule]


class KnownRule(TypedDict):
    """Rule of an automatic segment. `threshold`: [rank, user] up to which new users join."""

    rule: AutoRule
    threshold: list[Any] | None


class AutoState(TypedDict):
    """Rule and rounds of an automatic segment in its home shard.

    `threshold`: [rank, user] up to which users are assigned. `target` and `assigned` are those of
    the last completed round, None before the first.
    """

    rule: AutoRule
    round: int
    threshold: list[Any] | None
    target: int | None
    assigned: int | None
    skipped: int


class RoundState(TypedDict):
    """A running round. `replied`: partitions that have replied in this stage.

    `wanted`: number of users to assign. `bucket`: rank bucket of the last of them. `before`: number
    of candidates in lower buckets.
    """

    number: int
    stage: Literal["survey", "refine", "select"]
    replied: list[int]
    eligible: int
    members: int
    histogram: list[int]
    wanted: int
    bucket: int
    before: int
    places: list[list[Any]]
    assigned: int
    skipped: int
    command_id: str
    actor: str | None


class HomeState(TypedDict):
    """Segment in its home shard, which decides about it."""

    generation: int
    version: int
    state: DefinitionState
    description: str | None
    created_at: int
    outcomes: dict[str, str]
    auto: NotRequired[AutoState]
    running: NotRequired[RoundState]


class PreviewState(TypedDict):
    """Preview at the shard that coordinates it: the counts so far."""

    rule: AutoRule
    replied: list[int]
    eligible: int
    trace: NotRequired[dict[str, str]]


class DeferredSurvey(TypedDict):
    """Preview that a shard replies to once nothing is due."""

    preview: str
    rule: AutoRule


class AssignmentState(TypedDict):
    """A round at a shard. Bitmaps of ordinals: a `BitMap`, or its text when read from the store.

    Stages: `asked` waits until nothing is due; `surveyed` has fixed `candidates`; in `selected`,
    `pending` users are members from `at` on, though not written yet. `late` users became eligible
    after the survey. Round 0 is local to the shard, unknown to the home: it only adds `late` users.
    """

    segment: str
    generation: int
    round: int
    stage: Literal["asked", "surveyed", "selected"]
    rule: AutoRule
    candidates: Any
    pending: Any
    late: Any
    threshold: list[Any] | None
    at: int
    assigned: int
    skipped: int
    command_id: str | None
    actor: str | None


class DeletionJob(TypedDict):
    """Removal of a deleted generation's remaining members, effective at `at`."""

    segment: str
    generation: int
    at: int
    command_id: str | None
    actor: str | None


class ShardState(TypedDict):
    """Progress of the shard. `sources`: highest applied offset by `topic id:partition`.

    `defined`: offset of the last record that produced a public definition, -1 before the first.
    """

    log_time: int
    offset: int
    sources: dict[str, int]
    next_ordinal: int
    history_rows: int
    defined: int


class DocumentStore(Protocol):
    """Storage of a shard's documents: a dictionary in tests, RocksDB in production.

    `get` returns the live object; after changing it, `put` it again before the checkpoint.
    """

    def get(self, key: bytes) -> Any: ...

    def put(self, key: bytes, document: Any) -> None: ...

    def delete(self, key: bytes) -> None: ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Any]]: ...

    def publish(self, user_id: str) -> None: ...


def user_key(user_id: str) -> bytes:
    return USER_PREFIX + user_id.encode()


def known_segment_key(segment: str) -> bytes:
    return KNOWN_SEGMENT_PREFIX + segment.encode()


def home_key(segment: str) -> bytes:
    return HOME_PREFIX + segment.encode()


def job_key(segment: str, generation: int) -> bytes:
    return JOB_PREFIX + segment.encode() + b"\0%d" % generation


def assignment_key(segment: str, generation: int) -> bytes:
    return ASSIGNMENT_PREFIX + segment.encode() + b"\0%d" % generation


def preview_key(command_id: str) -> bytes:
    return PREVIEW_PREFIX + command_id.encode()


def deferred_survey_key(command_id: str) -> bytes:
    return DEFERRED_SURVEY_PREFIX + command_id.encode()


def encode(document: Any, *, sort_keys: bool = False) -> bytes:
    """Encode a document as JSON, bitmaps as base64 text."""
    option = orjson.OPT_SORT_KEYS if sort_keys else None
    return orjson.dumps(document, default=bitmap_text, option=option)


def bitmap_text(value: Any) -> str:
    """Encode a bitmap in base64: orjson's `default`. TypeError for any other type."""
    if isinstance(value, BitMap):
        return base64.b64encode(value.serialize()).decode()
    raise TypeError(f"not part of a document: {type(value).__name__}")


def bitmap(text: str | BitMap) -> BitMap:
    """Bitmap of a document; decodes it unless it is a `BitMap` already."""
    return text if isinstance(text, BitMap) else BitMap.deserialize(base64.b64decode(text))


def new_user(ordinal: int) -> StoredUser:
    return StoredUser(
        ordinal=ordinal,
        account="unknown",
        version=None,
        refresh=None,
        segments={},
        outcomes={},
        parked=[],
        due=None,
        offset=-1,
        at=0,
    )


def new_shard() -> ShardState:
    return ShardState(log_time=0, offset=-1, sources={}, next_ordinal=0, history_rows=0, defined=-1)
