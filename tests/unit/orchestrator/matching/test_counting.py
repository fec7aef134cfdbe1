"""Nodes without edges: counted, not searched."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dms.orchestrator.matching import Infeasible, Offer, Placed, Problem, Undecided, Wanted, solve
from dms.orchestrator.matching.capacity import Room
from dms.orchestrator.matching.counting import fill, refute
from dms.orchestrator.matching.instance import Catalogue, Instance
from dms.types.ids import PeerID
from dms.types.resources import CPU, RAM, Resources


def amount(cores: float, ram: int = 0) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram))


def offer(number: int, *nodes: str, free: Resources | None = None, price: float = 0.0) -> Offer:
    return Offer(PeerID(f"p{number:05}"), frozenset(nodes), free=free, price=price)


def test_ten_thousand_equal_nodes_over_as_many_bids_are_placed_in_the_best_way() -> None:
    rng = random.Random(1)
    wanted = [Wanted(f"gpu-{i}", amount(2), asked_as="gpu") for i in range(10_000)]
    offers = [offer(i, "gpu", free=amount(rng.choice([1, 2, 4, 8])), price=rng.random()) for i in range(10_000)]
    outcome = solve(Problem(wanted, offers))
    assert isinstance(outcome, Placed)
    assert outcome.is_optimal
    assert len(outcome.assignment) == 10_000
    loads: dict[PeerID, int] = {}
    for peer in outcome.assignment.values():
        loads[peer] = loads.get(peer, 0) + 1
    for o in offers:
        assert o.free is not None
        assert loads.get(o.peer, 0) * 2 <= o.free.cpu.cores


def test_one_node_too_many_is_refused_with_the_proof_in_figures() -> None:
    wanted = [Wanted(f"n{i}", amount(2), asked_as="n") for i in range(3001)]
    offers = [offer(i, "n", free=amount(7)) for i in range(1000)]
    outcome = solve(Problem(wanted, offers))
    assert isinstance(outcome, Infeasible)
    assert outcome.conflict.needs_capacity
    assert len(outcome.conflict.nodes) == 3001
    assert isinstance(solve(Problem(wanted[:3000], offers)), Placed)


def test_two_kinds_that_compete_find_their_places_though_the_cheaper_peers_are_the_same() -> None:
    wanted = [Wanted(f"small{i:03}", amount(1), asked_as="small") for i in range(300)]
    wanted += [Wanted(f"large{i:03}", amount(4), asked_as="large") for i in range(100)]
    offers = [offer(i, "small", "large", free=amount(4)) for i in range(100)]
    offers += [offer(i, "small", free=amount(2), price=9) for i in range(100, 250)]
    outcome = solve(Problem(wanted, offers))
    assert isinstance(outcome, Placed)
    assert {str(outcome.assignment[w.node_id]) < "p00100" for w in wanted if w.asked_as == "large"} == {True}
    refused = solve(Problem([*wanted, Wanted("one more", amount(1), asked_as="small")], offers))
    assert isinstance(refused, Infeasible)


def test_large_sets_that_counting_cannot_judge_are_not_called_impossible() -> None:
    wanted = [Wanted(f"a{i}", amount(3), asked_as="a") for i in range(300)]
    wanted += [Wanted(f"b{i}", amount(2), asked_as="b") for i in range(450)]
    offers = [offer(i, "a", "b", free=amount(6)) for i in range(300)]  # 300 × 6 = 300 × 3 + 450 × 2, in pure peers only
    outcome = solve(Problem(wanted, offers))
    assert isinstance(outcome, Placed | Undecided)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6))
def test_a_refutation_is_never_wrong_and_of_one_kind_always_found(seed: int) -> None:
    rng = random.Random(seed)
    kinds = rng.randint(1, 3)
    needs = [amount(rng.randint(1, 3), rng.randint(0, 2)) for _ in range(kinds)]
    wanted = [Wanted(f"n{i}", needs[i % kinds], asked_as=f"k{i % kinds}") for i in range(rng.randint(1, 5))]
    offers = [
        offer(
            i,
            *(f"k{k}" for k in range(kinds) if rng.random() < 0.7),
            free=rng.choice([None, amount(rng.randint(3, 5), rng.randint(2, 4))]),
        )
        for i in range(rng.randint(1, 4))
    ]
    instance = Instance(Catalogue(Problem(wanted, offers)))
    everybody = list(range(instance.size))
    too_many = refute(instance, everybody)
    assert not (too_many and can_be_placed(instance, list(too_many)))
    filled = fill(instance, everybody, {}) if all(instance.domains) else None
    if filled is not None and filled.chosen is not None:
        assert can_be_placed(instance, everybody)
    if filled is not None and filled.is_exact:
        assert (filled.chosen is not None) == can_be_placed(instance, everybody)


def can_be_placed(instance: Instance, nodes: list[int]) -> bool:
    for choice in itertools.product(range(len(instance.catalogue.offers)), repeat=len(nodes)):
        room = Room([o.free for o in instance.catalogue.offers])
        for v, p in zip(nodes, choice, strict=True):
            if not instance.domains[v] >> p & 1 or not room.fits(p, instance.demands[v]):
                break
            room.take(p, instance.demands[v])
        else:
            return True
    return False


def test_of_equal_peers_the_load_is_spread_evenly() -> None:
    wanted = [Wanted(f"n{i}", amount(1), asked_as="n") for i in range(90)]
    outcome = solve(Problem(wanted, [offer(i, "n", free=amount(50)) for i in range(30)]))
    assert isinstance(outcome, Placed)
    loads = [list(outcome.assignment.values()).count(PeerID(f"p{i:05}")) for i in range(30)]
    assert loads == [3] * 30


def test_many_nodes_and_their_standbys_never_share_a_peer() -> None:
    wanted = [Wanted(f"n{i}{role}", amount(1), asked_as="n", apart=f"n{i}") for i in range(200) for role in ("", "-s")]
    outcome = solve(Problem(wanted, [offer(i, "n", free=amount(3)) for i in range(150)]))
    assert isinstance(outcome, Placed)
    assert all(outcome.assignment[f"n{i}"] != outcome.assignment[f"n{i}-s"] for i in range(200))
