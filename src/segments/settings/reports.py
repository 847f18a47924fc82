"""Reports that are put somewhere: where by default, how often tried, how long remembered (R2)."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from segments.settings.destinations import AnyDestination
from segments.settings.sections import Section

LINK = "link"
"""The destination that is always there: nothing is put anywhere before the link is opened."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


class ReportSettings(Section):
    """Reports, and the destinations where jobs of the sidecar put them."""

    destination: str = Field(
        LINK, description="where reports go that do not say: `link`, or one of `destinations`"
    )
    destinations: dict[str, AnyDestination] = Field(
        default_factory=dict,
        description="name -> what its `kind` needs, below: a JSON object",
    )
    file_names: Literal["instant", "stable"] = Field(
        "instant",
        description="whether a name has the instant up to which the report is complete, or is the "
        "same each time, and the file replaced",
    )
    max_running: int = Field(1, ge=1, le=16, description="jobs that run at a time")
    max_queued: int = Field(100, ge=1, description="jobs that wait for their turn")
    attempts: int = Field(5, ge=1, le=100, description="tries of a job")
    backoff_ms: int = Field(1_000, ge=1, description="first wait after a failure; it doubles")
    backoff_max_ms: int = Field(60_000, ge=1, description="longest wait between tries")
    step_timeout_s: float = Field(
        120.0, gt=0, description="longest wait for a destination to take one piece (8 MiB)"
    )
    timeout_s: float = Field(3_600.0, gt=0, description="longest time for a job with all its tries")
    keep_days: float = Field(7.0, gt=0, description="how long jobs that have ended are remembered")
    keep_jobs: int = Field(1_000, ge=1, description="how many of them at most")

    @field_validator("destinations")
    @classmethod
    def _names(cls, value: dict[str, AnyDestination]) -> dict[str, AnyDestination]:
        for name in value:
            if _NAME.fullmatch(name) is None or name == LINK:
                raise ValueError(
                    "a destination's name has 1 to 64 letters, digits, _ and -, and is not link"
                )
        return value

    @model_validator(mode="after")
    def _default_exists(self) -> ReportSettings:
        if self.destination != LINK and self.destination not in self.destinations:
            raise ValueError(f"destination {self.destination!r} is not among destinations")
        return self
