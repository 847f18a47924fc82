"""User events and refreshes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from segments.contracts.names import UserId

AccountState = Literal["active", "blocked", "deleted", "unknown"]


class UserEvent(BaseModel):
    """A user changed. All other fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    user_id: UserId


class Refresh(BaseModel):
    """Request to fetch a user's state, or to use a supplied `state`, and send it to the shard.

    The last three fields are set on a refresh that was requeued after a failed fetch: it keeps its
    place in the order of states (`origin_offset`) and is not retried before `not_before_ms`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    user_id: UserId
    reason: Literal["event", "unknown", "manual", "retry"]
    state: Literal["active", "blocked", "deleted"] | None = None
    origin_offset: int | None = Field(None, ge=0)
    first_failed_at_ms: int | None = Field(None, ge=0)
    not_before_ms: int | None = Field(None, ge=0)
