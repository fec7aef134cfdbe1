"""Why not there, for any node and any peer."""

from __future__ import annotations

import itertools
import random

import pytest

from dms.ensemble.config import LocationConstraints
from dms.orchestrator.matching import (
    Circle,
    Conflict,
    Edge,
    Measurements,
    Offer,
    Place,
    Placed,
    Problem,
    Reasons,
    Refusal,
    Rule,
    Wanted,
    solve,
)
from dms.types.ids import PeerID
from dms.types.resources import CPU, RAM, Location, Resources

BERLIN, PARIS = Place(52.52, 13.4), Place(48.86, 2.35)
HERE, THERE, ELSEWHERE = PeerID("here"), PeerID("there"), PeerID("elsewhere")


def amount(cores: float, ram: int = 0) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram))


def only(wanted: Wanted, offer: Offer, **more: object) -> tuple[Refusal, ...]:
    return Reasons(Problem([wanted], [offer], **more)).why_not(wanted.node_id, offer.peer)  # type: ignore[arg-type]


GERMAN = LocationConstraints(accept=(Location(country="DE"),))
NOT_FRENCH = LocationConstraints(reject=(Location(country="FR"),))
NODES = frozenset({"a"})
FRENCH = Location(country="FR", city="Paris")


@pytest.mark.parametrize(
    ("wanted", "offer", "rule", "said"),
    [
        (Wanted("a", amount(1)), Offer(HERE, frozenset({"b"})), Rule.NO_BID, "the peer did not bid for this node"),
        (Wanted("a", amount(1), pinned=THERE), Offer(HERE, NODES), Rule.PINNED, "the node is pinned to there"),
        (
            Wanted("a", amount(1), location=GERMAN),
            Offer(HERE, NODES, location=FRENCH),
            Rule.LOCATION,
            "its location (FR, Paris) is not among those accepted",
        ),
        (
            Wanted("a", amount(1), location=NOT_FRENCH),
            Offer(HERE, NODES, location=FRENCH),
            Rule.LOCATION,
            "its location (FR, Paris) is rejected",
        ),
        (
            Wanted("a", amount(1), location=GERMAN),
            Offer(HERE, NODES),
            Rule.LOCATION,
            "its location (unknown) is not among those accepted",
        ),
        (
            Wanted("a", amount(1), within=Circle(BERLIN, 500)),
            Offer(HERE, NODES, place=PARIS),
            Rule.DISTANCE,
            "it is 877 km away, the limit is 500 km",
        ),
        (
            Wanted("a", amount(1), within=Circle(BERLIN, 500)),
            Offer(HERE, NODES),
            Rule.DISTANCE,
            "where it is is not known, and it must be within 500 km",
        ),
        (Wanted("a", amount(2)), Offer(HERE, NODES, amount(1.5)), Rule.RESOURCES, "cores: 2 wanted, 1.5 free"),
        (
            Wanted("a", amount(1), max_price=2),
            Offer(HERE, NODES, price=1, prices={"a": 2.5}),
            Rule.PRICE,
            "the peer asks 2.5, the limit is 2",
        ),
    ],
)
def test_what_concerns_node_and_peer_alone_is_told(wanted: Wanted, offer: Offer, rule: Rule, said: str) -> None:
    assert only(wanted, offer) == (Refusal("a", HERE, rule, said),)


def test_a_pinned_node_is_not_asked_where_its_peer_is() -> None:
    wanted = Wanted("a", amount(1), pinned=HERE, location=GERMAN, within=Circle(BERLIN, 1))
    assert only(wanted, Offer(HERE, NODES, location=FRENCH, place=PARIS)) == ()


def test_all_reasons_are_told_at_once_and_that_a_peer_is_excluded() -> None:
    refusals = only(Wanted("a", amount(2), location=GERMAN), Offer(HERE, NODES, amount(1)), excluded={HERE})
    assert [refusal.rule for refusal in refusals] == [Rule.EXCLUDED, Rule.LOCATION, Rule.RESOURCES]
    assert str(refusals[0]) == "a on here: the peer is excluded"


def test_of_a_peer_that_was_not_heard_of_that_is_told() -> None:
    reasons = Reasons(Problem([Wanted("a", amount(1))], [Offer(HERE, NODES)]))
    assert [r.detail for r in reasons.why_not("a", THERE)] == ["nothing was heard of the peer"]


def placed(problem: Problem) -> Reasons:
    outcome = solve(problem)
    assert isinstance(outcome, Placed)
    return Reasons(problem, outcome.assignment)


def test_with_an_assignment_what_the_other_nodes_leave_is_told() -> None:
    nodes = frozenset({"a", "b"})
    known = Measurements()
    known.record(HERE, THERE, rtt_ms=5)
    known.record(HERE, ELSEWHERE, rtt_ms=70)
    offers = [Offer(HERE, nodes, amount(1)), Offer(THERE, nodes, amount(1)), Offer(ELSEWHERE, nodes, amount(1))]
    wanted = [Wanted("a", amount(1), pinned=HERE), Wanted("b", amount(1), apart="x"), Wanted("c", amount(1), apart="x")]
    reasons = placed(Problem(wanted[:2], offers, [Edge("a", "b", 20)], measurements=known))
    assert reasons.why_not("a", HERE) == ()
    assert {str(r) for r in reasons.table("b")} == {
        "b on here: the peer is full with a",
        "b on elsewhere: edge a–b (at most 20 ms) to here, where a is: 70 ms measured, at most 20 wanted",
    }
    apart = [Offer(HERE, frozenset({"b"}), amount(9)), Offer(THERE, frozenset({"b", "c"}), amount(9), price=9)]
    [refusal] = placed(Problem(wanted[1:], apart)).why_not("b", THERE)
    assert (refusal.rule, refusal.detail) == (Rule.APART, "the peer hosts c, which must be elsewhere")


def test_what_would_be_possible_is_told_how_much_worse_it_is() -> None:
    offers = [Offer(HERE, NODES, price=1), Offer(THERE, NODES, price=3.5), Offer(ELSEWHERE, NODES, price=1)]
    reasons = placed(Problem([Wanted("a", amount(1))], offers))
    told = {str(r.peer): (r.rule, r.detail) for r in reasons.table("a")}
    better = next(peer for peer in (HERE, ELSEWHERE) if peer not in told)
    assert told.pop("there") == (Rule.RANK, f"{better} is better by 2.5")
    assert [*told.values()] == [(Rule.RANK, "all nodes together are placed no worse without it")]


def test_without_an_assignment_a_peer_that_is_too_far_from_all_partners_is_told() -> None:
    known = Measurements()
    known.record(HERE, THERE, rtt_ms=50)
    offers = [Offer(HERE, NODES), Offer(THERE, frozenset({"b"}))]
    wanted = [Wanted("a", amount(1)), Wanted("b", amount(1))]
    reasons = Reasons(Problem(wanted, offers, [Edge("a", "b", 20)], measurements=known))
    assert [r.detail for r in reasons.why_not("a", HERE)] == [
        f"edge a–b (at most 20 ms): no peer that may host b is near enough; of {THERE} 50 ms measured, at most 20 wanted"
    ]


def test_for_every_node_and_every_peer_there_is_an_answer() -> None:
    rng = random.Random(3)
    nodes = [f"n{i}" for i in range(5)]
    offers = [
        Offer(PeerID(f"p{i}"), frozenset(rng.sample(nodes, 3)), rng.choice([None, amount(rng.randint(1, 3))]))
        for i in range(12)
    ]
    problem = Problem([Wanted(n, amount(1)) for n in nodes], offers)
    outcome = solve(problem)
    assert isinstance(outcome, Placed)
    reasons = Reasons(problem, outcome.assignment)
    for node in nodes:
        assert {r.peer for r in reasons.table(node)} == {o.peer for o in offers} - {outcome.assignment[node]}


def test_a_conflict_is_one_line_however_large_it_is() -> None:
    nodes = tuple(f"n{i}" for i in range(1000))
    edges = tuple(Edge(a, b, 10) for a, b in itertools.pairwise(nodes))
    line = str(Conflict(nodes, edges, ((nodes[0], Rule.PINNED),), needs_capacity=True))
    assert len(line) < 500
    assert "n5 and 994 more cannot be placed together: pinned (n0), edge n0–n1 (at most 10 ms)" in line
    assert line.endswith("993 more edges, what the peers have free")
