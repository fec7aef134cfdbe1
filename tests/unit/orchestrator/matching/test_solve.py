"""The matching with edges, held against trying everything."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.ensemble.config import LocationConstraints
from dms.orchestrator.matching import (
    Coordinate,
    Edge,
    Infeasible,
    Measurements,
    Offer,
    Place,
    Placed,
    Problem,
    Undecided,
    Unmeasured,
    Wanted,
    Weights,
    solve,
)
from dms.orchestrator.matching.capacity import demand_of
from dms.orchestrator.matching.outcome import Conflict
from dms.orchestrator.matching.ranking import edge_points, node_points, spread_points
from dms.orchestrator.matching.rules import Rule, broken_rules
from dms.resources.arithmetic import fits, total
from dms.types.ids import PeerID
from dms.types.resources import CPU, RAM, Location, Resources

PEERS = [PeerID(f"p{i}") for i in range(8)]
EU = LocationConstraints(accept=(Location(continent="EU"),))
Assignment = dict[str, PeerID]


def amount(cores: float, ram: int = 0) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram))


def wishes(problem: Problem) -> Conflict:
    """Everything that a problem wishes, as a conflict would name it."""
    rules = (Rule.EXCLUDED, Rule.PINNED, Rule.LOCATION, Rule.DISTANCE, Rule.PRICE)
    return Conflict(
        tuple(w.node_id for w in problem.wanted),
        problem.edges,
        tuple((w.node_id, rule) for w in problem.wanted for rule in rules),
        needs_capacity=True,
        keeps_apart=True,
    )


def is_right(problem: Problem, kept: Conflict, chosen: Assignment) -> bool:
    """Whether an assignment keeps these wishes; written anew, without the code under test where that is possible."""
    offers = {offer.peer: offer for offer in problem.offers}
    nodes = [w for w in problem.wanted if w.node_id in chosen]
    for w in nodes:
        broken = {rule for rule, _ in broken_rules(w, demand_of(w.resources), offers[chosen[w.node_id]], set())}
        broken -= {Rule.RESOURCES}
        if any(rule is Rule.NO_BID or (w.node_id, rule) in kept.rules for rule in broken):
            return False
    for x, y in itertools.combinations(nodes, 2):
        if kept.keeps_apart and x.apart and x.apart == y.apart and chosen[x.node_id] == chosen[y.node_id]:
            return False
    for edge in kept.edges:
        if edge.s in chosen and edge.t in chosen and not keeps(problem, edge, chosen[edge.s], chosen[edge.t]):
            return False
    for peer in set(chosen.values()) if kept.needs_capacity else ():
        hosted = [w.resources for w in nodes if chosen[w.node_id] == peer]
        free = offers[peer].free
        if len(hosted) > 1 if free is None else not fits(free, total(hosted)):
            return False
    return True


def keeps(problem: Problem, edge: Edge, p: PeerID, q: PeerID) -> bool:
    if p == q:
        return True
    rtt_ms, bandwidth_bps = problem.measurements.rtt_ms(p, q), problem.measurements.bandwidth_bps(p, q)
    if edge.rtt_ms and rtt_ms is not None and rtt_ms > edge.rtt_ms:
        return False
    return not (edge.bandwidth_bps and bandwidth_bps is not None and bandwidth_bps < edge.bandwidth_bps)


def points(problem: Problem, chosen: Assignment) -> int:
    """The objective, from its description."""
    offers = {offer.peer: offer for offer in problem.offers}
    found = 0
    for w in problem.wanted:
        found += node_points(w, demand_of(w.resources), offers[chosen[w.node_id]], problem.weights)
    loads = [list(chosen.values()).count(peer) for peer in set(chosen.values())]
    found += sum(load * (load - 1) // 2 for load in loads) * spread_points(problem.weights)
    for edge in problem.edges:
        p, q = chosen[edge.s], chosen[edge.t]
        if p != q:
            rtt_ms = problem.measurements.rtt_ms(p, q)
            assert rtt_ms is not None
            found += edge_points(problem.weights, rtt_ms)
    return found


def all_assignments(problem: Problem, nodes: tuple[str, ...]) -> Iterator[Assignment]:
    peers = [offer.peer for offer in problem.offers]
    for choice in itertools.product(peers, repeat=len(nodes)):
        yield dict(zip(nodes, choice, strict=True))


def can_be_met(problem: Problem, kept: Conflict) -> bool:
    return any(is_right(problem, kept, chosen) for chosen in all_assignments(problem, kept.nodes))


def an_instance(seed: int) -> Problem:
    """A small problem with all kinds of wishes; about one in three can be met."""
    rng = random.Random(seed)
    nodes = [f"n{i}" for i in range(rng.randint(1, 4))]
    peers = PEERS[: rng.randint(1, 5)]
    wanted = [
        Wanted(
            node,
            amount(rng.choice([0.5, 1, 1, 1.5, 2]), rng.randint(0, 2)),
            pinned=rng.choice([*[None] * 6, *peers]),
            location=rng.choice([None, None, EU]),
            apart=rng.choice(["", "", "group"]),
            max_price=rng.choice([None, None, 1.0]),
        )
        for node in nodes
    ]
    offers = [
        Offer(
            peer,
            frozenset(node for node in nodes if rng.random() < 0.85),
            free=rng.choice([None, amount(rng.choice([1, 2, 3]), rng.randint(1, 5))]),
            location=Location(continent=rng.choice(["EU", "NA"])),
            price=rng.choice([0.5, 1.5]),
            latency_ms=rng.choice([None, 10, 50, 100]),
            reliability=rng.choice([0.5, 0.9, 1]),
        )
        for peer in peers
    ]
    pairs = itertools.combinations(nodes, 2)
    edges = [Edge(s, t, rng.choice([0, 20, 50]), rng.choice([0, 0, 100])) for s, t in pairs if rng.random() < 0.5]
    measured = Measurements()
    for p, q in itertools.combinations(peers, 2):
        measured.record(p, q, rtt_ms=rng.choice([5, 20, 30, 60]), bandwidth_bps=rng.choice([50, 200]))
    return Problem(wanted, offers, edges, measurements=measured)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_it_finds_the_best_assignment_or_the_smallest_reason_why_there_is_none(seed: int) -> None:
    problem = an_instance(seed)
    outcome = solve(problem)
    everything = wishes(problem)
    best = min(
        (points(problem, c) for c in all_assignments(problem, everything.nodes) if is_right(problem, everything, c)),
        default=None,
    )
    if best is not None:
        assert isinstance(outcome, Placed)
        chosen = dict(outcome.assignment)
        assert is_right(problem, everything, chosen)
        assert points(problem, chosen) == outcome.points == best
        assert outcome.is_optimal
        return
    assert isinstance(outcome, Infeasible)
    assert str(outcome)
    conflict = outcome.conflict
    assert conflict.is_minimal
    assert not can_be_met(problem, conflict)
    for smaller in without_one(conflict):
        assert can_be_met(problem, smaller), smaller


def without_one(conflict: Conflict) -> Iterator[Conflict]:
    for node in conflict.nodes if len(conflict.nodes) > 1 else ():
        yield Conflict(
            tuple(n for n in conflict.nodes if n != node),
            conflict.edges,
            conflict.rules,
            needs_capacity=conflict.needs_capacity,
            keeps_apart=conflict.keeps_apart,
        )
    for edge in conflict.edges:
        rest = tuple(e for e in conflict.edges if e != edge)
        yield Conflict(conflict.nodes, rest, conflict.rules, conflict.needs_capacity, conflict.keeps_apart)
    for broken in conflict.rules:
        rules = tuple(r for r in conflict.rules if r != broken)
        yield Conflict(conflict.nodes, conflict.edges, rules, conflict.needs_capacity, conflict.keeps_apart)
    if conflict.needs_capacity:
        yield Conflict(conflict.nodes, conflict.edges, conflict.rules, keeps_apart=conflict.keeps_apart)
    if conflict.keeps_apart:
        yield Conflict(conflict.nodes, conflict.edges, conflict.rules, needs_capacity=conflict.needs_capacity)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_of_what_is_asked_decides_nothing(seed: int, rng: random.Random) -> None:
    problem = an_instance(seed)
    wanted, offers, edges = list(problem.wanted), list(problem.offers), list(problem.edges)
    for part in (wanted, offers, edges):
        rng.shuffle(part)
    turned = [Edge(e.t, e.s, e.rtt_ms, e.bandwidth_bps) for e in edges]
    assert solve(Problem(wanted, offers, turned, measurements=problem.measurements)) == solve(problem)


def a_wide_instance(seed: int, nodes: int, peers: int) -> Problem:
    rng = random.Random(seed)
    ids = [PeerID(f"p{i:03}") for i in range(peers)]
    points_ = [(rng.uniform(0, 100), rng.uniform(0, 100)) for _ in ids]
    measured = Measurements()
    for (p, (x, y)), (q, (u, v)) in itertools.combinations(zip(ids, points_, strict=True), 2):
        measured.record(p, q, rtt_ms=abs(x - u) + abs(y - v) + 2)
    names = [f"n{i}" for i in range(nodes)]
    offers = [
        Offer(
            p, frozenset(names), amount(rng.choice([1, 2, 4])), latency_ms=rng.uniform(1, 200), price=rng.uniform(0, 1)
        )
        for p in ids
    ]
    edges = [Edge(names[i], names[(i + step) % nodes], rng.uniform(30, 60)) for i in range(nodes) for step in (1, 3)]
    return Problem([Wanted(name, amount(1)) for name in names], offers, edges, measurements=measured)


def test_a_seed_and_an_amount_of_work_give_one_answer_and_more_work_none_that_is_worse() -> None:
    problem = a_wide_instance(1, 12, 40)
    little, much = solve(problem, work=300, seed=5), solve(problem, work=3000, seed=5)
    assert little == solve(problem, work=300, seed=5)
    assert isinstance(little, Placed)
    assert isinstance(much, Placed)
    assert much.points <= little.points
    assert not little.is_optimal
    assert is_right(problem, wishes(problem), dict(much.assignment))
    assert points(problem, dict(much.assignment)) == much.points


def test_without_work_it_says_that_it_does_not_know() -> None:
    outcome = solve(a_wide_instance(1, 12, 40), work=0)
    assert isinstance(outcome, Undecided)
    assert "none excluded" in str(outcome)


@pytest.mark.parametrize("is_near", [True, False])
def test_pairs_that_were_never_measured_are_asked_for_until_the_answer_is_certain(is_near: bool) -> None:
    problem = a_wide_instance(2, 6, 15)
    bounds = 60.0 if is_near else 1.0
    edges = [Edge(e.s, e.t, bounds) for e in problem.edges]
    truth, known = problem.measurements, Measurements()
    free = [Offer(o.peer, o.nodes, amount(1), latency_ms=o.latency_ms) for o in problem.offers]
    rounds = 0
    while True:
        outcome = solve(Problem(problem.wanted, free, edges, measurements=known))
        if not isinstance(outcome, Unmeasured):
            break
        rounds += 1
        for p, q in outcome.pairs:
            assert known.rtt_ms(p, q) is None
            known.record(p, q, rtt_ms=truth.rtt_ms(p, q))
    assert rounds
    if is_near:
        assert isinstance(outcome, Placed)
        assert len(list(known.pairs())) < 15 * 14 / 2
        assert all(keeps(problem, e, outcome.assignment[e.s], outcome.assignment[e.t]) for e in edges)
    else:
        assert isinstance(outcome, Infeasible)
        assert len(list(known.pairs())) < 15 * 14 / 2, "some measurements are proof enough"


def test_a_bandwidth_that_was_never_measured_is_asked_for() -> None:
    offers = [Offer(p, frozenset({n}), amount(1)) for p, n in zip(PEERS, ("a", "b"), strict=False)]
    wanted, edges, known = [Wanted("a", amount(1)), Wanted("b", amount(1))], [Edge("a", "b", 0, 1000)], Measurements()
    known.record(PEERS[0], PEERS[1], rtt_ms=1)
    outcome = solve(Problem(wanted, offers, edges, measurements=known))
    assert isinstance(outcome, Unmeasured)
    assert outcome.pairs == ((PEERS[0], PEERS[1]),)
    known.record(PEERS[0], PEERS[1], bandwidth_bps=1000)
    assert isinstance(solve(Problem(wanted, offers, edges, measurements=known)), Placed)
    known.record(PEERS[1], PEERS[0], bandwidth_bps=999)
    refused = solve(Problem(wanted, offers, edges, measurements=known))
    assert str(refused) == "a, b cannot be placed together: edge a–b (at least 1000 bit/s)"


def test_light_refuses_a_pair_that_nobody_measured() -> None:
    berlin, sydney = Place(52.5, 13.4), Place(-33.9, 151.2)
    wanted, edges = [Wanted("a", amount(1)), Wanted("b", amount(1))], [Edge("a", "b", 100)]
    offers = [
        Offer(PEERS[0], frozenset({"a"}), amount(1), place=berlin),
        Offer(PEERS[1], frozenset({"b"}), amount(1), place=sydney),
    ]
    outcome = solve(Problem(wanted, offers, edges))
    assert isinstance(outcome, Infeasible)
    assert outcome.conflict.edges == (Edge("a", "b", 100),)


def test_coordinates_steer_what_is_measured_but_prove_nothing() -> None:
    wanted, edges = [Wanted("a", amount(1)), Wanted("b", amount(1))], [Edge("a", "b", 20)]
    here, far, near = Coordinate((0.0, 0.0)), Coordinate((80.0, 0.0)), Coordinate((3.0, 4.0), height_ms=2)
    offers = [
        Offer(PEERS[0], frozenset({"a"}), amount(1), coordinate=here),
        Offer(PEERS[1], frozenset({"b"}), amount(1), coordinate=far, price=0),
        Offer(PEERS[2], frozenset({"b"}), amount(1), coordinate=near, price=3),
    ]
    known = Measurements()
    first = solve(Problem(wanted, offers, edges, measurements=known))
    assert isinstance(first, Unmeasured)
    assert first.assignment["b"] == PEERS[2], "the cheaper one seems too far"
    known.record(PEERS[0], PEERS[2], rtt_ms=30)
    second = solve(Problem(wanted, offers, edges, measurements=known))
    assert isinstance(second, Unmeasured), "a guess is no proof"
    assert second.assignment["b"] == PEERS[1]
    known.record(PEERS[0], PEERS[1], rtt_ms=15)
    assert isinstance(solve(Problem(wanted, offers, edges, measurements=known)), Placed)


def test_what_counts_is_up_to_the_weights() -> None:
    wanted = [Wanted("a", amount(1), prefers=(Location(country="DE"),))]
    nodes = frozenset({"a"})
    offers = {
        "latency": Offer(PEERS[0], nodes, amount(2), latency_ms=1, price=5, reliability=0),
        "price": Offer(PEERS[1], nodes, amount(2), latency_ms=900, price=0.1, reliability=0),
        "reliability": Offer(PEERS[2], nodes, amount(2), latency_ms=900, price=5, reliability=1),
        "capacity": Offer(PEERS[3], nodes, amount(64), latency_ms=900, price=5, reliability=0),
        "preference": Offer(PEERS[4], nodes, amount(2), Location(country="DE"), latency_ms=900, price=5, reliability=0),
    }
    nothing = dict.fromkeys(("latency", "edges", "price", "reliability", "capacity", "preference", "spread"), 0.0)
    for name, offer in offers.items():
        outcome = solve(Problem(wanted, offers.values(), weights=Weights(**{**nothing, name: 1.0})))
        assert isinstance(outcome, Placed)
        assert outcome.assignment["a"] == offer.peer, name


def test_standbys_live_elsewhere_and_without_enough_peers_that_is_the_reason() -> None:
    wanted = [Wanted(n, amount(1), apart="web") for n in ("web", "web-standby-1", "web-standby-2")]
    nodes = frozenset(w.node_id for w in wanted)
    offers = [Offer(p, nodes, amount(8)) for p in PEERS[:3]]
    placed = solve(Problem(wanted, offers))
    assert isinstance(placed, Placed)
    assert len(set(placed.assignment.values())) == 3
    refused = solve(Problem(wanted, offers[:2]))
    assert str(refused) == (
        "web, web-standby-1, web-standby-2 cannot be placed together: different peers for a node and its standbys"
    )


def test_equal_nodes_round_a_hub_are_not_tried_in_every_order() -> None:
    """Fourteen workers that fit on thirteen peers only: fourteen factorial orders, of which one is enough."""
    names = [f"w{i:02}" for i in range(14)]
    wanted = [Wanted("hub", amount(1)), *(Wanted(n, amount(1), apart="worker") for n in names)]
    offers = [Offer(PeerID("hub"), frozenset({"hub"}), amount(1))]
    offers += [Offer(PeerID(f"p{i:02}"), frozenset(names), amount(4)) for i in range(13)]
    known = Measurements()
    for a, b in itertools.combinations([o.peer for o in offers], 2):
        known.record(a, b, rtt_ms=5)
    edges = [Edge("hub", n, 10) for n in names]
    outcome = solve(Problem(wanted, offers, edges, measurements=known))
    assert isinstance(outcome, Infeasible)
    assert set(outcome.conflict.nodes) == set(names)
    assert outcome.conflict.keeps_apart
    assert not outcome.conflict.edges


@pytest.mark.parametrize("nonsense", [math.inf, math.nan, -1.0, 1e300])
def test_nonsense_from_peers_makes_them_the_worst_and_harms_nobody(nonsense: float) -> None:
    nodes, known = frozenset({"a", "b"}), Measurements()
    known.record(PEERS[0], PEERS[1], rtt_ms=nonsense, bandwidth_bps=min(nonsense, 1.0))
    known.record(PEERS[0], PEERS[2], rtt_ms=50)
    known.record(PEERS[1], PEERS[2], rtt_ms=nonsense)
    liar = Offer(PEERS[1], nodes, amount(1), price=nonsense, latency_ms=nonsense, reliability=nonsense)
    offers = [Offer(p, nodes, amount(1)) for p in (PEERS[0], PEERS[2])]
    wanted = [Wanted("a", amount(1)), Wanted("b", amount(1))]
    outcome = solve(Problem(wanted, [*offers, liar], [Edge("a", "b", 80)], measurements=known))
    assert isinstance(outcome, Placed)
    assert set(outcome.assignment.values()) == {PEERS[0], PEERS[2]}
    refused = solve(Problem(wanted, [offers[0], liar], [Edge("a", "b", 80)], measurements=known))
    assert isinstance(refused, Infeasible)
