"""User events and refreshes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from segments.contracts.names import UserId

AccountState = Literal["active", "blocked", "deleted", "unknown"]


class UserEvent(BaseModel):
    """Something about a user changed. Whatever else the event says is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    user_id: UserId


class Refresh(BaseModel):
    """Fetch a user's state, or take the given one, and tell the user's shard.

    The last three fields stand in a refresh that was put behind the others because its user could
    not be fetched: it keeps its place in the order of states (`origin_offset`), and is not tried
    again before `not_before_ms`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    user_id: UserId
    reason: Literal["event", "unknown", "manual", "retry"]
    state: Literal["active", "blocked", "deleted"] | None = None
    origin_offset: int | None = Field(None, ge=0)
    first_failed_at_ms: int | None = Field(None, ge=0)
    not_before_ms: int | None = Field(None, ge=0)
