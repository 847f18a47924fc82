"""Delivery of reports to destinations: the section `reports`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from segments.settings.destinations import AnyDestination
from segments.settings.sections import Section

LINK = "link"
"""The built-in destination: the report is generated when its link is opened."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


class ReportSettings(Section):
    """Reports, and the destinations to which jobs of the sidecar deliver them."""

    destination: str = Field(
        LINK, description="default destination of a report: `link`, or one of `destinations`"
    )
    destinations: dict[str, AnyDestination] = Field(
        default_factory=dict,
        description="name -> settings of its `kind`, see below: a JSON object",
    )
    file_names: Literal["instant", "stable"] = Field(
        "instant",
        description="`instant`: a file name contains the time up to which the report is complete; "
        "`stable`: it is always the same and the file is replaced",
    )
    max_running: int = Field(1, ge=1, le=16, description="maximum number of running jobs")
    max_queued: int = Field(100, ge=1, description="maximum number of queued jobs")
    attempts: int = Field(5, ge=1, le=100, description="maximum number of attempts of a job")
    backoff_ms: int = Field(1_000, ge=1, description="delay after the first failure; it doubles")
    backoff_max_ms: int = Field(60_000, ge=1, description="maximum delay between attempts")
    step_timeout_s: float = Field(
        120.0, gt=0, description="timeout for a destination to accept one piece (8 MiB)"
    )
    timeout_s: float = Field(3_600.0, gt=0, description="timeout of a job with all its attempts")
    keep_days: float = Field(7.0, gt=0, description="retention of ended jobs")
    keep_jobs: int = Field(1_000, ge=1, description="maximum number of retained ended jobs")

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
