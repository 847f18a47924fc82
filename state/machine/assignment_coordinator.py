"""A round of automatic assignment at the segment's home: pure decisions on its document.

    survey ──▶ every shard counts ──▶ surveyed: how many, and in which bucket the last one stands
    refine ──▶ every shard looks there ──▶ refined: the place of the last one
    select ──▶ every shard writes ──▶ selected: the segment is active

Whoever has the segment keeps it: a round chooses as many as are missing, the lowest places first.

The threshold, up to which newcomers join, is the place of the last one chosen. It never sinks while
the filters stay. Where a round chooses nobody it is the share of all places there could be, but
before everybody who was counted: who was there and was not chosen is no newcomer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from segments.contracts.auto import WHOLE_PPM, AutoRule, target_of
from segments.contracts.log import BUCKETS, REFINE, SELECT, SURVEY
from segments.state.machine.documents import AutoState, HomeState, RoundState
from segments.state.machine.ranks import LAST_PLACE, Place, bucket_of, proportional


class RoundMessage(NamedTuple):
    """What the home tells every shard."""

    type: str
    value: dict[str, Any]


def begin(segment: str, home: HomeState, command: dict[str, Any]) -> RoundMessage:
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


def is_expected(home: HomeState | None, reply: dict[str, Any], stage: str) -> bool:
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
) -> RoundMessage | None:
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
    if auto["rule"]["ppm"] == WHOLE_PPM:
        return _select(segment, home, LAST_PLACE, threshold_below(auto, LAST_PLACE))
    if eligible == 0:
        return _select(segment, home, None, threshold_below(auto, LAST_PLACE))
    running["stage"], running["replied"] = "refine", []
    running["bucket"], running["before"] = bucket_of(histogram, _target_number(running))
    return _message(REFINE, segment, home, {"bucket": running["bucket"]})


def _target_number(running: RoundState) -> int:
    """The number of the last one to be chosen; where nobody is, of the first to be left out."""
    return max(1, running["wanted"])


def refined(
    segment: str, home: HomeState, reply: dict[str, Any], partitions: int
) -> RoundMessage | None:
    """Add a shard's places in the bucket; the selection once all of them are known."""
    running = home["running"]
    running["replied"].append(reply["partition"])
    running["places"].extend(reply["places"])
    if len(running["replied"]) < partitions:
        return None
    places, running["places"] = sorted(running["places"]), []
    found = Place(*places[_target_number(running) - running["before"] - 1])
    auto = home["auto"]
    if running["wanted"] == 0:
        return _select(segment, home, None, threshold_below(auto, found.predecessor()))
    return _select(segment, home, found, threshold_through(auto, found))


def _select(
    segment: str, home: HomeState, chosen: Place | None, threshold: Place | None
) -> RoundMessage:
    auto, running = home["auto"], home["running"]
    running["stage"], running["replied"] = "select", []
    auto["threshold"] = None if threshold is None else list(threshold)
    return _message(
        SELECT,
        segment,
        home,
        {
            "chosen": None if chosen is None else list(chosen),
            "threshold": auto["threshold"],
            "command_id": running["command_id"],
            "actor": running["actor"],
        },
    )


def threshold_through(auto: AutoState, chosen: Place) -> Place:
    """The threshold after a round that chose up to this place."""
    held = auto["threshold"]
    return chosen if held is None else max(Place(*held), chosen)


def threshold_below(auto: AutoState, most: Place) -> Place | None:
    """The threshold after a round that found nobody up to this place and chose nobody.

    None where there is none: a number of users says nothing about the places of newcomers.
    """
    held, ppm = auto["threshold"], auto["rule"]["ppm"]
    if ppm is not None:
        return threshold_through(auto, min(proportional(ppm), most))
    return None if held is None else Place(*held)


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


def _message(kind: str, segment: str, home: HomeState, value: dict[str, Any]) -> RoundMessage:
    running = home["running"]
    identity = {
        "segment": segment,
        "generation": home["generation"],
        "round": running["number"],
    }
    return RoundMessage(kind, identity | value)
