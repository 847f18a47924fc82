"""Coordination of rounds in the home shard, with places in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from segments.contracts.auto import Auto
from segments.contracts.log import BUCKETS
from segments.state.machine import assignment_coordinator, definitions
from segments.state.machine.documents import HomeState
from segments.state.machine.ranks import MAX_RANK, Place
from tests.support.machine.assignment_oracle import rounded

# Few buckets, many ties: as bad as a hash could be.
BUCKET_NUMBERS = st.sampled_from([0, 7, BUCKETS - 1])
RANKS = st.builds(lambda bucket, low: bucket << 52 | low, BUCKET_NUMBERS, st.integers(0, 2))
PLACES = st.builds(Place, RANKS, st.integers(0, 40).map(lambda number: f"{number:032x}"))
SHARES = st.one_of(
    st.sampled_from([0.0001, 1, 33.3333, 50, 100]).map(lambda percent: {"percent": percent}),
    st.sampled_from([1, 3, 1_000]).map(lambda count: {"count": count}),
)


def run(home: HomeState, shards: list[tuple[list[Place], int]], order: list[int]) -> dict[str, Any]:
    """A round over shards with these eligible places and members: the value of `select`."""
    message: assignment_coordinator.RoundMessage | None = assignment_coordinator.begin(
        "A", home, {"id": "c"}
    )
    assert message is not None
    identity = {
        "segment": "A",
        "generation": home["generation"],
        "round": home["running"]["number"],
    }
    while message is not None and message.type != "select":
        request, message = message, None
        for partition in order:
            places, members = shards[partition]
            reply = identity | {"partition": partition}
            if request.type == "survey":
                histogram = [0] * BUCKETS
                for place in places:
                    histogram[place.rank >> 52] += 1
                reply |= {"eligible": len(places), "members": members, "histogram": histogram}
                stage, step = "survey", assignment_coordinator.surveyed
            else:
                inside = [list(p) for p in places if p.rank >> 52 == request.value["bucket"]]
                reply |= {"places": inside}
                stage, step = "refine", assignment_coordinator.refined
            assert message is None, "nobody goes on before all have replied"
            assert assignment_coordinator.is_expected(home, reply, stage)
            message = step("A", home, reply, len(shards))
            again = "select" if message is not None and message.type == "select" else stage
            assert message is not None or not assignment_coordinator.is_expected(home, reply, again)
    assert message is not None
    return message.value


@settings(max_examples=200, deadline=None)
@given(
    everybody=st.lists(PLACES, unique=True, max_size=30),
    shares=st.lists(SHARES, min_size=1, max_size=3),
    partitions=st.integers(1, 8),
    data=st.data(),
)
def test_a_round_assigns_the_missing_number_with_the_lowest_places(
    everybody: list[Place], shares: list[dict[str, Any]], partitions: int, data: st.DataObject
) -> None:
    home = definitions.create(
        definitions.undefined(),
        {"segment": "A", "auto": Auto(**shares[0]).rule()},
        now=1,
        active=0,
        max_segments=1,
    )
    assert isinstance(home, dict)
    having: set[Place] = set()
    before: list[Any] | None = None
    for share in shares:
        rule = home["auto"]["rule"] = Auto(**share).rule()
        shards: list[tuple[list[Place], int]] = [([], 0) for _ in range(partitions)]
        for place in everybody:
            partition = data.draw(st.integers(0, partitions - 1))
            places, members = shards[partition]
            if place in having:
                shards[partition] = (places, members + 1)
            else:
                places.append(place)
        order = data.draw(st.permutations(range(partitions)))
        selection = run(home, shards, order)
        left = sorted(set(everybody) - having)
        wanted = max(0, rounded(dict(rule), len(everybody)) - len(having))
        last = Place(-1, "") if selection["chosen"] is None else Place(*selection["chosen"])
        assert [place for place in left if place <= last] == left[:wanted]
        having |= set(left[:wanted])
        threshold = selection["threshold"]
        if threshold is not None:
            assert all(place > Place(*threshold) for place in left[wanted:])
            assert before is None or threshold >= before, "it never sinks"
        else:
            assert before is None
        before = threshold
        for partition in range(partitions):
            over = assignment_coordinator.selected(
                home, {"partition": partition, "assigned": 0, "skipped": 1}, partitions
            )
            assert over == (partition == partitions - 1)
        assert (home["state"], "running" in home) == ("active", False)
    assert home["auto"]["skipped"] == partitions * len(shares)


def test_predecessor_of_a_place() -> None:
    for place in (Place(5, "0" * 31 + "1"), Place(5, "0" * 32), Place(MAX_RANK, "f" * 32)):
        before = place.predecessor()
        assert before < place
        assert len(before.user) == 32
    assert Place(5, "0" * 32).predecessor() == Place(4, "f" * 32)
    assert Place(5, "0" * 31 + "1").predecessor() == Place(5, "0" * 32)
    assert Place(0, "0" * 32).predecessor().rank == -1
