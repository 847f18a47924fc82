"""The documents of a shard's state, as they stand in the store, and their keys.

Plain dictionaries: they are read and written by the hundred thousand, and JSON is their form both
in RocksDB and in the changelog. All instants and durations are in milliseconds.
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
    """The same form as in the public document."""

    since: int
    expires_at: int | None
    origin: Origin
    generation: int


class Outcome(TypedDict):
    """What became of a command; kept (`deduplication`) with its id, so that the same id
    gives the same answer."""

    status: ResultStatus
    error: dict[str, Any] | None
    changes: list[list[str]]
    offset: int
    at: int


class DeferredChange(TypedDict):
    """A change that waits for a segment not yet heard of. `at` is its own log time."""

    change: dict[str, Any]
    offset: int
    at: int
    deadline: int


class StoredUser(TypedDict):
    """One user. `due` is the earliest end of a membership or the deadline of the first parked.

    `pins`: segment -> generation that automation gives this user no (more).
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
    """What a shard has heard of a segment."""

    generation: int
    version: int
    state: DefinitionState
    auto: NotRequired[KnownRule]


class KnownRule(TypedDict):
    """What a shard needs of an automatic segment. `threshold`: who may join later, if anybody."""

    rule: AutoRule
    threshold: list[Any] | None


class AutoState(TypedDict):
    """An automatic segment at home. `threshold` = [rank, user] up to which users have it.

    `target` and `assigned` are those of the last finished round; None before the first.
    """

    rule: AutoRule
    round: int
    threshold: list[Any] | None
    target: int | None
    assigned: int | None
    skipped: int


class RoundState(TypedDict):
    """A round on its way: survey, refine, select. `replied`: partitions heard from in this stage.

    `wanted` users are to be chosen; `bucket` holds the last of them, `before` come ahead of it.
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
    """A segment in its home shard, the authority on it."""

    generation: int
    version: int
    state: DefinitionState
    description: str | None
    created_at: int
    outcomes: dict[str, str]
    auto: NotRequired[AutoState]
    running: NotRequired[RoundState]


class PreviewState(TypedDict):
    """A preview at the shard that counts its replies."""

    rule: AutoRule
    replied: list[int]
    eligible: int
    trace: NotRequired[dict[str, str]]


class DeferredSurvey(TypedDict):
    """A preview that a shard answers once nothing is due."""

    preview: str
    rule: AutoRule


class AssignmentState(TypedDict):
    """A round at a shard. Bitmaps of ordinals: a `BitMap`, or its text when read from the store.

    `asked`: waits until nothing is due. `surveyed`: `candidates` are fixed. `selected`: `pending`
    users have the segment from `at` on, though it is not written yet. `late` users became eligible
    since the survey. Round 0 is none that the home knows of: it only lets `late` users in.
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
    """Members of a deleted generation still to be removed; effective at `at`."""

    segment: str
    generation: int
    at: int
    command_id: str | None
    actor: str | None


class ShardState(TypedDict):
    """One a shard. `sources` = highest applied offset of each `topic id:partition`.

    `defined` = offset of the last record that gave a public definition, -1 before the first.
    """

    log_time: int
    offset: int
    sources: dict[str, int]
    next_ordinal: int
    history_rows: int
    defined: int


class DocumentStore(Protocol):
    """Where a shard keeps its documents: a dictionary in tests, RocksDB in production.

    `get` gives the live object; whoever changes it must `put` it again before the checkpoint.
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
    """A document as JSON; bitmaps as text."""
    option = orjson.OPT_SORT_KEYS if sort_keys else None
    return orjson.dumps(document, default=bitmap_text, option=option)


def bitmap_text(value: Any) -> str:
    """A bitmap in base64: for orjson, which knows none. TypeError for anything else."""
    if isinstance(value, BitMap):
        return base64.b64encode(value.serialize()).decode()
    raise TypeError(f"not part of a document: {type(value).__name__}")


def bitmap(text: str | BitMap) -> BitMap:
    """A bitmap of a document, as it is or from its text."""
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
