"""Placements under pairwise latency bounds, beside OR-Tools CP-SAT on the same instances.

Peers lie in a plane of latencies, each with an access line of its own: evenly spread, or in a few clusters. Every node
may be hosted by any peer that bid; edges bound the round trip between nodes: a ring with chords, a star of equal workers
round a hub, groups all of whose nodes are near each other. *Tight* instances are cut from a hidden assignment that just
keeps the bounds; *infeasible* ones ask for what the peers cannot give.

Bids say where on earth a peer is, with lines that are cables as the crow flies, and where it lies in the space of latencies,
as that follows from 150 exchanges with neighbours whose round trips vary by a tenth. Where all is measured neither matters;
how many measurements they spare where nothing is, is counted: as when deploying, the pairs on which the best assignment
rests are measured and it is asked again, until it is certain.

CP-SAT gets the same costs and the same allowed pairs, two workers, and a time limit; where it does not end before, it gets
as much time again to improve on our answer, and the best of its two answers counts. Building its model is told apart
from solving it.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bench.networks import Bench
from bench.report import Report
from dms.network.coordinates import Coordinate, Vivaldi
from dms.orchestrator.matching import (
    Edge,
    Infeasible,
    Measurements,
    Offer,
    Outcome,
    Place,
    Placed,
    Problem,
    Undecided,
    Unmeasured,
    Wanted,
    solve,
)
from dms.types.ids import PeerID
from dms.types.resources import CPU, RAM, Resources

SIZES = {(10, 50): 0.06, (20, 200): 0.5, (50, 500): 3.0}
"""Groups and peers, and the goal in seconds."""
AGAIN = {(10, 50): 4, (20, 200): 0, (50, 500): 0}
"""How often what takes little is timed again: the work is the same each time, the least is without that of others."""
TURNS = {(10, 50): 5, (20, 200): 3, (50, 500): 1}
CP_LIMIT_S = {(10, 50): 3.0, (20, 200): 10.0, (50, 500): 20.0}
MANY = 10_000
MANY_GOAL_S = 5.0
MAX_WORSE = 1.02
EXCHANGES, NEIGHBOURS = 150, 16
DEGREES_PER_MS = 0.9
"""A round trip of a millisecond is 100 km of cable."""
MAX_ROUNDS = 300


@dataclass(frozen=True)
class Shape:
    """One kind of instance."""

    name: str
    make: Callable[[random.Random, int, int], Problem]


@dataclass
class _Plane:
    """Peers with their latencies."""

    rng: random.Random
    count: int
    clusters: int = 0
    points: list[tuple[float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        centres = [(self.rng.uniform(0, 100), self.rng.uniform(0, 100)) for _ in range(self.clusters)]
        for _ in range(self.count):
            x, y = self.rng.uniform(0, 100), self.rng.uniform(0, 100)
            if centres:
                cx, cy = self.rng.choice(centres)
                x, y = self.rng.gauss(cx, 5), self.rng.gauss(cy, 5)
            self.points.append((x, y, self.rng.uniform(0.5, 4)))

    def rtt_ms(self, p: int, q: int) -> float:
        (x, y, h), (u, v, g) = self.points[p], self.points[q]
        return round(math.hypot(x - u, y - v) + h + g, 2)

    def place(self, p: int) -> Place:
        x, y, _ = self.points[p]
        return Place(max(-89.0, min(89.0, (y - 50) * DEGREES_PER_MS)), (x - 50) * DEGREES_PER_MS, 20.0)

    def coordinates(self) -> list[Coordinate]:
        rng = random.Random(self.count)
        nodes = [Vivaldi(random.Random(p)) for p in range(self.count)]
        near = [rng.sample([q for q in range(self.count) if q != p], NEIGHBOURS) for p in range(self.count)]
        for _ in range(EXCHANGES):
            for p, node in enumerate(nodes):
                q = rng.choice(near[p])
                node.observe(q, nodes[q].coordinate, self.rtt_ms(p, q) * rng.uniform(1.0, 1.1))
        return [node.coordinate for node in nodes]

    def measured(self) -> Measurements:
        found = Measurements()
        for p, q in itertools.combinations(range(self.count), 2):
            found.record(_peer(p), _peer(q), rtt_ms=self.rtt_ms(p, q))
        return found


def ring(rng: random.Random, groups: int, peers: int) -> Problem:
    """A ring with as many chords, bounds between a fifth and half of the plane."""
    return _problem(rng, groups, _Plane(rng, peers), [(s, t, rng.uniform(20, 50)) for s, t in _ring(rng, groups)])


def clusters(rng: random.Random, groups: int, peers: int) -> Problem:
    """Groups of five that are near each other, and a chain of groups; the peers lie in clusters."""
    edges = [
        (s, t, 25.0) for first in range(0, groups, 5) for s, t in itertools.combinations(range(first, first + 5), 2)
    ]
    edges += [(first, first + 5, 90.0) for first in range(0, groups - 5, 5)]
    return _problem(rng, groups, _Plane(rng, peers, clusters=max(3, peers // 25)), edges)


def star(rng: random.Random, groups: int, peers: int) -> Problem:
    """Equal workers round a hub."""
    return _problem(rng, groups, _Plane(rng, peers), [(0, t, 40.0) for t in range(1, groups)], is_equal=True)


def tight(rng: random.Random, groups: int, peers: int) -> Problem:
    """Bounds that a hidden assignment just keeps."""
    plane = _Plane(rng, peers)
    hidden = [rng.randrange(peers) for _ in range(groups)]
    edges = [(s, t, max(6.0, plane.rtt_ms(hidden[s], hidden[t]) * 1.1)) for s, t in _ring(rng, groups)]
    return _problem(rng, groups, plane, edges, hidden=hidden, bid_share=0.3)


def infeasible(rng: random.Random, groups: int, peers: int) -> Problem:
    """Two nodes that only peers at opposite ends may host, joined by a chain of bounds that is too short."""
    plane = _Plane(rng, peers)
    edges = [(s, t, rng.uniform(20, 50)) for s, t in _ring(rng, groups)]
    edges += [(v, v + 1, 12.0) for v in range(3)]
    west = {p for p in range(peers) if plane.points[p][0] < 20}
    east = {p for p in range(peers) if plane.points[p][0] > 80}
    return _problem(rng, groups, plane, edges, only={0: west, 3: east})


SHAPES = [Shape(make.__name__, make) for make in (ring, clusters, star, tight, infeasible)]


def many(rng: random.Random, count: int) -> Problem:
    """Equal nodes, as many bids."""
    free = [_free(rng) for _ in range(count)]
    offers = [
        Offer(_peer(p), frozenset({"n"}), free=free[p], price=rng.uniform(0.1, 2), latency_ms=rng.uniform(1, 200))
        for p in range(count)
    ]
    return Problem([Wanted(f"n{v}", _resources(2, 2), asked_as="n") for v in range(count)], offers)


def measure(_bench: Bench) -> Report:
    """See the module."""
    report = Report("matching", "how long does a placement take, and how good is it, beside CP-SAT?")
    for (groups, peers), goal_s in SIZES.items():
        slowest, worst = 0.0, 0.0
        for shape in SHAPES:
            name = f"{groups} × {peers}, {shape.name}"
            seconds = []
            for turn in range(TURNS[groups, peers]):
                problem = shape.make(random.Random(f"{shape.name} {turn}"), groups, peers)
                took_s, outcome = _timed(problem)
                again_s = [_timed(problem)[0] for _ in range(AGAIN[groups, peers])]
                seconds.append(min(took_s, *again_s) if again_s else took_s)
                if turn == 0:
                    worst = max(worst, _compare(report, name, problem, outcome, took_s, CP_LIMIT_S[groups, peers]))
            slowest = max(slowest, report.median(f"{name}, processor time", [s * 1000 for s in seconds], "ms"))
        report.goal(f"{groups} × {peers}, slowest shape", slowest, goal_s * 1000, "ms")
        report.goal(f"{groups} × {peers}, objective / that of CP-SAT", worst, MAX_WORSE, "×")
    _count_measurements(report, 10, 50)
    seconds = [_timed(many(random.Random(turn), MANY))[0] for turn in range(3)]
    report.goal(f"{MANY} equal nodes, {MANY} bids", report.median("equal nodes", seconds, "s"), MANY_GOAL_S, "s")
    return report


def _count_measurements(report: Report, groups: int, peers: int) -> None:
    for shape in SHAPES:
        if shape.make is infeasible:
            continue  # coordinates prove nothing: all is measured, unless light decides
        counts: dict[str, list[float]] = {"nothing": [], "places": [], "coordinates": [], "both": []}
        for turn in range(TURNS[groups, peers]):
            problem = shape.make(random.Random(f"{shape.name} {turn}"), groups, peers)
            for known, found in counts.items():
                found.append(measured_pairs(problem, known))
        name = f"{groups} × {peers}, {shape.name}, nothing measured before: pairs measured"
        for known, found in counts.items():
            report.median(f"{name}, knowing {known}", found, "pairs")


def measured_pairs(problem: Problem, known: str) -> int:
    """How many pairs are measured until it is certain, when bids say this."""
    has_place, has_coordinate = known in ("places", "both"), known in ("coordinates", "both")
    offers = [
        replace(o, place=o.place if has_place else None, coordinate=o.coordinate if has_coordinate else None)
        for o in problem.offers
    ]
    truth, told = problem.measurements, Measurements()
    for _ in range(MAX_ROUNDS):
        outcome = solve(Problem(problem.wanted, offers, problem.edges, measurements=told), explains=False)
        if not isinstance(outcome, Unmeasured):
            break
        for a, b in outcome.pairs:
            told.record(a, b, rtt_ms=truth.rtt_ms(a, b))
    return sum(1 for _ in told.pairs())


def _timed(problem: Problem) -> tuple[float, Outcome]:
    """In processor time: it is one thread, and others may use the machine too."""
    gc.collect()
    started = time.process_time()
    outcome = solve(problem)
    return time.process_time() - started, outcome


def _compare(report: Report, name: str, problem: Problem, outcome: Outcome, took_s: float, limit_s: float) -> float:
    """Ask CP-SAT the same; by how much its answer is better."""
    from bench.cp_sat import solve_with_cp_sat

    hint = outcome.assignment if isinstance(outcome, Placed) else None
    other = solve_with_cp_sat(problem, limit_s, hint)
    report.single(f"{name}: CP-SAT, building", other.building_s * 1000, "ms")
    report.single(f"{name}: CP-SAT, solving", other.solving_s * 1000, "ms")
    report.ratio(f"{name}: time / CP-SAT's", [took_s], [other.building_s + other.solving_s])
    if isinstance(outcome, Undecided) or (isinstance(outcome, Infeasible) and other.points is not None):
        raise AssertionError(f"{name}: {outcome}, but CP-SAT found {other.points}")
    if isinstance(outcome, Placed) and other.points is None and other.is_proven:
        raise AssertionError(f"{name}: placed, but CP-SAT proved that nothing can be")
    if not isinstance(outcome, Placed):
        return 0.0
    if other.points is not None:
        report.ratio(f"{name}: objective / CP-SAT's", [outcome.points], [other.points])
    best = min(points for points in (other.points, other.hinted, outcome.points) if points is not None)
    return report.ratio(f"{name}: objective / the best that CP-SAT made of it", [outcome.points], [best])


def _problem(
    rng: random.Random,
    groups: int,
    plane: _Plane,
    edges: list[tuple[int, int, float]],
    *,
    hidden: list[int] | None = None,
    bid_share: float = 0.8,
    only: dict[int, set[int]] | None = None,
    is_equal: bool = False,
) -> Problem:
    demands = [(1, 1)] * groups if is_equal else [(rng.randint(1, 4), rng.randint(1, 8)) for _ in range(groups)]
    offers, coordinates = [], plane.coordinates()
    for p in range(plane.count):
        bids = {
            f"n{v}"
            for v in range(groups)
            if (rng.random() < bid_share or (hidden and hidden[v] == p)) and (not only or v not in only or p in only[v])
        }
        if is_equal:
            bids = {f"n{v}" for v in range(groups)} if rng.random() < bid_share else set()
        free = _free(rng)
        if hidden and (mine := [demands[v] for v in range(groups) if hidden[v] == p]):
            free = _resources(max(free.cpu.cores, sum(c for c, _ in mine)), max(free.ram.size, sum(r for _, r in mine)))
        offers.append(
            Offer(
                _peer(p),
                frozenset(bids),
                free=free,
                price=round(rng.uniform(0.1, 2), 2),
                latency_ms=round(rng.uniform(1, 200), 1),
                reliability=round(rng.uniform(0.7, 1), 3),
                place=plane.place(p),
                coordinate=coordinates[p],
            )
        )
    wanted = [Wanted(f"n{v}", _resources(*demand)) for v, demand in enumerate(demands)]
    return Problem(wanted, offers, [Edge(f"n{s}", f"n{t}", rtt) for s, t, rtt in edges], measurements=plane.measured())


def _ring(rng: random.Random, groups: int) -> list[tuple[int, int]]:
    found = {(v, (v + 1) % groups) for v in range(groups)}
    while len(found) < 2 * groups:
        s, t = rng.sample(range(groups), 2)
        if (s, t) not in found and (t, s) not in found:
            found.add((s, t))
    return sorted(found)


def _free(rng: random.Random) -> Resources:
    return _resources(rng.choice([2, 4, 8, 16]), rng.choice([4, 8, 16, 32]))


def _resources(cores: float, ram: int) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram))


def _peer(number: int) -> PeerID:
    return PeerID(f"peer-{number:05}")
