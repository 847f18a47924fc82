"""Coordinates rounds of automatic assignment in the segment's home shard: pure functions.

    survey ──▶ every shard counts ──▶ surveyed: number of users to assign, bucket of the last one
    refine ──▶ every shard lists that bucket ──▶ refined: place of the last user to assign
    select ──▶ every shard writes ──▶ selected: the segment is active

Members keep the segment: a round assigns as many users as are missing, lowest places first.

New users join up to the threshold, the place of the last user assigned. It never decreases while
the filters stay the same. A round that assigns no user derives it from the rule's share of all
possible places, but below the place of every user counted: an existing user who was not chosen
must not join as a new one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from segments.contracts.auto import WHOLE_PPM, AutoRule, target_of
from segments.contracts.log import BUCKETS, REFINE, SELECT, SURVEY
from segments.state.machine.documents import AutoState, HomeState, RoundState
from segments.state.machine.ranks import LAST_PLACE, Place, bucket_of, proportional


class RoundMessage(NamedTuple):
    """Message from the home shard to every shard: log record type and value."""

    type: str
    value: dict[str, Any]


def begin(segment: str, home: HomeState, command: dict[str, Any]) -> RoundMessage:
    """Start a round for the rule in the segment's document; returns its survey."""
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
    """Whether a reply belongs to the current stage of its segment's round."""
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
    """Add a shard's count; returns the next message once every shard has replied."""
    running = home["running"]
    running["replied"].append(reply["partition"])
    running["eligible"] += reply["eligible"]
    running["members"] += reply["members"]
    running["histogram"] = [
        total + count for total, count in zip(running["histogram"], reply["histogram"], strict=True)
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
    """1-based number of the last candidate to assign, or 1 when none is to be assigned."""
    return max(1, running["wanted"])


def refined(
    segment: str, home: HomeState, reply: dict[str, Any], partitions: int
) -> RoundMessage | None:
    """Add a shard's places in the bucket; returns the selection once every shard has replied."""
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
    """Threshold after a round that assigned all candidates up to this place."""
    current = auto["threshold"]
    return chosen if current is None else max(Place(*current), chosen)


def threshold_below(auto: AutoState, maximum: Place) -> Place | None:
    """Threshold after a round that assigned no user and found no candidate up to `maximum`.

    A rule with a count sets none: a number of users does not determine a place for new users.
    """
    current, ppm = auto["threshold"], auto["rule"]["ppm"]
    if ppm is not None:
        return threshold_through(auto, min(proportional(ppm), maximum))
    return None if current is None else Place(*current)


def selected(home: HomeState, reply: dict[str, Any], partitions: int) -> bool:
    """Add a shard's result; returns whether every shard has replied, which ends the round."""
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


def raises(current: AutoRule, new: AutoRule) -> bool | None:
    """Whether the new rule raises the percentage or count (True) or keeps it (False).

    None when it lowers it or replaces a percentage by a count or the reverse.
    """
    if (current["ppm"] is None) != (new["ppm"] is None):
        return None
    before, after = (rule["ppm"] or rule["count"] or 0 for rule in (current, new))
    return None if after < before else after > before


def _message(
    message_type: str, segment: str, home: HomeState, value: dict[str, Any]
) -> RoundMessage:
    running = home["running"]
    identity = {
        "segment": segment,
        "generation": home["generation"],
        "round": running["number"],
    }
    return RoundMessage(message_type, identity | value)
