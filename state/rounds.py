"""A round of automatic assignment at the segment's home: pure decisions on its document.

    survey ──▶ every shard counts ──▶ surveyed: how many, and in which bucket the last one stands
    refine ──▶ every shard looks there ──▶ refined: the place of the last one
    select ──▶ every shard writes ──▶ selected: the segment is active

Whoever has the segment keeps it: a round chooses as many as are missing, the lowest places first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from segments.contracts.auto import WHOLE_PPM, AutoRule, target_of
from segments.contracts.log import REFINE, SELECT, SURVEY
from segments.state.documents import AutoState, HomeState, RoundState
from segments.state.ranks import BUCKETS, FIRST_OF_NONE, LAST_OF_ALL, Place, bucket_of, proportional


class Message(NamedTuple):
    """What the home tells every shard."""

    type: str
    value: dict[str, Any]


def begin(segment: str, home: HomeState, command: dict[str, Any]) -> Message:
    """Begin a round of a segment whose document has its rule."""
    auto = home["auto"]
    auto["round"] += 1
    home["running"] = RoundState(
        number=auto["round"],
        stage="survey",
        replied=[],
        eligible=0,
        members=0,
        histogram=[0] * BUCKETS,
        wanted=0,
        bucket=0,
        before=0,
        places=[],
        assigned=0,
        skipped=0,
        command_id=command["id"],
        actor=command.get("actor"),
    )
    return _message(SURVEY, segment, home, {"rule": auto["rule"]})


def is_awaited(home: HomeState | None, reply: dict[str, Any], stage: str) -> bool:
    """Whether a reply belongs to the stage that its segment's round is in."""
    if home is None or home["state"] == "deleted" or "running" not in home:
        return False
    running = home["running"]
    return (
        reply["generation"] == home["generation"]
        and reply["round"] == running["number"]
        and stage == running["stage"]
        and reply["partition"] not in running["replied"]
    )


def surveyed(
    segment: str, home: HomeState, reply: dict[str, Any], partitions: int
) -> Message | None:
    """Add a shard's count; the next message once every shard has counted."""
    running = home["running"]
    running["replied"].append(reply["partition"])
    running["eligible"] += reply["eligible"]
    running["members"] += reply["members"]
    running["histogram"] = [
        mine + its for mine, its in zip(running["histogram"], reply["histogram"], strict=True)
    ]
    if len(running["replied"]) < partitions:
        return None
    auto = home["auto"]
    eligible = running["eligible"]
    target = auto["target"] = target_of(auto["rule"], eligible + running["members"])
    running["wanted"] = max(0, target - running["members"])
    histogram, running["histogram"] = running["histogram"], []
    if running["wanted"] == 0:
        return _select(segment, home, FIRST_OF_NONE)
    if auto["rule"]["ppm"] == WHOLE_PPM:
        return _select(segment, home, LAST_OF_ALL)
    running["stage"], running["replied"] = "refine", []
    running["bucket"], running["before"] = bucket_of(histogram, running["wanted"])
    return _message(REFINE, segment, home, {"bucket": running["bucket"]})


def refined(
    segment: str, home: HomeState, reply: dict[str, Any], partitions: int
) -> Message | None:
    """Add a shard's places in the bucket; the selection once all of them are known."""
    running = home["running"]
    running["replied"].append(reply["partition"])
    running["places"].extend(reply["places"])
    if len(running["replied"]) < partitions:
        return None
    places, running["places"] = sorted(running["places"]), []
    last = places[running["wanted"] - running["before"] - 1]
    return _select(segment, home, Place(*last))


def _select(segment: str, home: HomeState, chosen: Place) -> Message:
    auto, running = home["auto"], home["running"]
    running["stage"], running["replied"] = "select", []
    auto["threshold"] = threshold_after(auto, chosen)
    return _message(
        SELECT,
        segment,
        home,
        {
            "chosen": None if chosen == FIRST_OF_NONE else list(chosen),
            "threshold": auto["threshold"],
            "command_id": running["command_id"],
            "actor": running["actor"],
        },
    )


def threshold_after(auto: AutoState, chosen: Place) -> list[Any] | None:
    """Up to which place newcomers may join after a round that chose up to this place.

    Where nobody was chosen, a share is still a share: of all places there could be.
    """
    held = auto["threshold"]
    ppm = auto["rule"]["ppm"]
    if chosen != FIRST_OF_NONE:
        reached = list(chosen)
    elif held is None and ppm is not None:
        reached = list(proportional(ppm))
    else:
        return held
    return reached if held is None else max(held, reached)


def selected(home: HomeState, reply: dict[str, Any], partitions: int) -> bool:
    """Add what a shard has written; whether all have, and the round is over."""
    running = home["running"]
    running["replied"].append(reply["partition"])
    running["assigned"] += reply["assigned"]
    running["skipped"] += reply["skipped"]
    if len(running["replied"]) < partitions:
        return False
    auto = home["auto"]
    auto["assigned"] = running["members"] + running["assigned"]
    auto["skipped"] += running["skipped"]
    del home["running"]
    home["state"] = "active"
    home["version"] += 1
    return True


def raises(held: AutoRule, wanted: AutoRule) -> bool | None:
    """Whether a rule asks for more (True), the same (False), or less or by another measure."""
    if (held["ppm"] is None) != (wanted["ppm"] is None):
        return None
    before, after = (rule["ppm"] or rule["count"] or 0 for rule in (held, wanted))
    return None if after < before else after > before


def _message(kind: str, segment: str, home: HomeState, value: dict[str, Any]) -> Message:
    running = home["running"]
    identity = {
        "segment": segment,
        "generation": home["generation"],
        "round": running["number"],
    }
    return Message(kind, identity | value)
