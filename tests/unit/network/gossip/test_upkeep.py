from __future__ import annotations

import random
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from dms.network.gossip import MeshParameters
from dms.network.gossip.upkeep import Plan, plan
from dms.types.ids import PeerID

P = MeshParameters()


def peers(prefix: str, count: int) -> list[PeerID]:
    return [PeerID(f"{prefix}{number:02}") for number in range(count)]


def decide(
    members: list[PeerID],
    candidates: list[PeerID],
    *,
    scores: Mapping[PeerID, float] | None = None,
    outbound: set[PeerID] | None = None,
    better_than: float | None = None,
    seed: int = 1,
) -> Plan:
    scored = scores or {}
    return plan(
        members,
        lambda: candidates,
        score=lambda peer: scored.get(peer, 0.0),
        is_outbound=lambda peer: outbound is None or peer in outbound,
        parameters=P,
        rng=random.Random(seed),
        better_than=better_than,
    )


def test_a_thin_mesh_is_filled_to_its_degree() -> None:
    decided = decide(peers("m", 4), peers("c", 20))
    assert len(decided.graft) == 2
    assert decide(peers("m", 5), peers("c", 20)).graft == []


def test_a_fat_mesh_is_cut_to_its_degree_and_keeps_the_best_and_those_that_we_dialled() -> None:
    members = peers("m", 13)
    scores = {peer: float(number) for number, peer in enumerate(members)}
    dialled = set(members[:2])
    decided = decide(members, [], scores=scores, outbound=dialled)
    kept = set(members) - set(decided.prune)
    assert len(kept) == P.degree
    assert set(members[-4:]) <= kept
    assert dialled <= kept
    assert decide(peers("m", 12), []).prune == []


def test_whoever_has_a_negative_score_goes_and_does_not_come() -> None:
    members, candidates = peers("m", 6), peers("c", 3)
    bad = {members[0]: -1.0, candidates[0]: -1.0}
    decided = decide([members[0], *members[1:5]], candidates, scores=bad)
    assert decided.evict == [members[0]]
    assert set(decided.graft) == set(candidates[1:])


def test_a_mesh_of_peers_that_dialled_us_takes_in_some_that_we_dialled() -> None:
    members, candidates = peers("m", 8), peers("c", 5)
    decided = decide(members, candidates, outbound=set(candidates[:3]))
    assert len(decided.graft) == P.degree_out
    assert set(decided.graft) <= set(candidates[:3])


def test_a_mediocre_mesh_takes_its_chance_of_better_peers() -> None:
    members, candidates = peers("m", 6), peers("c", 6)
    scores = {**dict.fromkeys(members, 1.0), **dict.fromkeys(candidates[:3], 5.0)}
    assert decide(members, candidates, scores=scores).graft == []
    decided = decide(members, candidates, scores=scores, better_than=2.5)
    assert len(decided.graft) == P.opportunistic_peers
    assert set(decided.graft) <= set(candidates[:3])
    good = dict.fromkeys([*members, *candidates], 5.0)
    assert decide(members, candidates, scores=good, better_than=2.5).graft == []


@settings(max_examples=100)
@given(
    members=st.sets(st.integers(0, 40), max_size=30),
    candidates=st.sets(st.integers(0, 40), max_size=30),
    scores=st.dictionaries(st.integers(0, 40), st.floats(-10, 10)),
    outbound=st.sets(st.integers(0, 40)),
    better_than=st.none() | st.just(2.5),
    seed=st.integers(0, 10),
)
def test_after_any_upkeep_the_mesh_is_within_bounds(
    members: set[int],
    candidates: set[int],
    scores: dict[int, float],
    outbound: set[int],
    better_than: float | None,
    seed: int,
) -> None:
    def name(number: int) -> PeerID:
        return PeerID(f"p{number:02}")

    scored = {name(number): score for number, score in scores.items()}
    before = {name(number) for number in members}
    pool = {name(number) for number in candidates}
    decided = decide(
        sorted(before),
        sorted(pool),
        scores=scored,
        outbound={name(n) for n in outbound},
        better_than=better_than,
        seed=seed,
    )
    gone = {*decided.prune, *decided.evict}
    after = (before - gone) | set(decided.graft)
    assert len(decided.graft) == len(set(decided.graft))
    assert gone <= before
    assert set(decided.graft) <= pool - before
    assert all(scored.get(peer, 0) >= 0 for peer in after)
    good = {peer for peer in before | pool if scored.get(peer, 0) >= 0}
    assert len(after) >= min(P.degree_low, len(good))
    assert len(after) <= P.degree_high + P.degree_out + P.opportunistic_peers
