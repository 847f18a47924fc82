"""Rules of automatic assignment: the percentage or number of eligible users to select."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

from segments.contracts.names import SegmentName
from segments.contracts.times import TtlMs

FILTER_NAMES_MAX = 100
COUNT_MAX = 1_000_000_000
WHOLE_PPM = 1_000_000
"""100 % in parts per million, the unit in which 4 decimals of a percentage are an integer."""

AutoAccount = Literal["active", "blocked", "unknown"]


class AutoRule(TypedDict):
    """A rule in the log and the state: exactly one of `ppm` (parts per million) and `count`."""

    ppm: int | None
    count: int | None
    include: list[str]
    exclude: list[str]
    accounts: list[str]
    ttl_ms: int | None
    newcomers: bool


def percent_to_ppm(value: Any) -> int:
    """`12.5` -> 125000; ValueError unless 0 < percent <= 100 with at most 4 decimals."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a percentage must be a number")  # noqa: TRY004 - pydantic reports ValueError
    if not 0 < value <= 100:  # also false for NaN
        raise ValueError("a percentage must be greater than 0 and at most 100")
    # repr gives the shortest decimal form, which is what the sender wrote.
    parts = Decimal(repr(value)) * 10_000
    if parts != parts.to_integral_value():
        raise ValueError("a percentage must have at most 4 decimals")
    return int(parts)


Percent = Annotated[
    int,
    BeforeValidator(percent_to_ppm),
    WithJsonSchema(
        {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 100,
            "description": "with up to 4 decimals",
        }
    ),
]
"""A percentage in JSON, parts per million in the model."""
# The other field may be present as null.
_ONE_SHARE = [
    {"required": [name], "properties": {name: {"type": "number"}}} for name in ("percent", "count")
]


class Auto(BaseModel):
    """Selects `percent` or `count` (exactly one) of the users that match the filters."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"oneOf": list[Any](_ONE_SHARE)}
    )

    percent: Percent | None = None
    count: Annotated[StrictInt, Field(ge=1, le=COUNT_MAX)] | None = None
    include: list[SegmentName] = Field(default_factory=list, max_length=FILTER_NAMES_MAX)
    exclude: list[SegmentName] = Field(default_factory=list, max_length=FILTER_NAMES_MAX)
    accounts: Annotated[list[AutoAccount], Field(min_length=1, max_length=3)] = ["active"]
    ttl: TtlMs | None = None
    newcomers: StrictBool = False

    @model_validator(mode="after")
    def _consistent(self) -> Auto:
        if (self.percent is None) == (self.count is None):
            raise ValueError("exactly one of percent and count is required")
        for field, names in (("include", self.include), ("exclude", self.exclude)):
            if len(set(names)) != len(names):
                raise ValueError(f"{field} has repeated names")
        if both := sorted(set(self.include) & set(self.exclude)):
            raise ValueError(f"in both include and exclude: {', '.join(both)}")
        if len(set(self.accounts)) != len(self.accounts):
            raise ValueError("accounts has repeated states")
        return self

    def rule(self) -> AutoRule:
        """The rule in the form of the log and the state."""
        return AutoRule(
            ppm=self.percent,
            count=self.count,
            include=sorted(self.include),
            exclude=sorted(self.exclude),
            accounts=sorted(self.accounts),
            ttl_ms=self.ttl,
            newcomers=self.newcomers,
        )


def target_of(rule: AutoRule, population: int) -> int:
    """Number of users to select from a population; a percentage is rounded half up."""
    if rule["count"] is not None:
        return min(rule["count"], population)
    assert rule["ppm"] is not None, "a rule has a share or a count"
    return (2 * rule["ppm"] * population + WHOLE_PPM) // (2 * WHOLE_PPM)
