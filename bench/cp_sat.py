"""The same placement as a model of OR-Tools CP-SAT: the yardstick of :mod:`bench.matching`, no part of the product.

One boolean per node and peer that may host it; per edge the table of allowed pairs with their cost; per peer the sums of
its cores and memory, and the cost of hosting several nodes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ortools.sat.python import cp_model

from dms.orchestrator.matching import Problem
from dms.orchestrator.matching.capacity import demand_of
from dms.orchestrator.matching.ranking import edge_points, node_points, spread_points
from dms.orchestrator.matching.rules import broken_rules
from dms.types.ids import PeerID

WORKERS = 2

Hosts = dict[str, dict[int, Any]]
"""For each node and each peer that may host it a literal of the solver's, which has no types of its own."""


@dataclass(frozen=True)
class Answer:
    """What CP-SAT said. ``points`` is ``None`` when it found nothing, ``is_proven`` when it is certain.

    ``hinted``: the best that it found when it was told an assignment to begin with.
    """

    points: int | None
    is_proven: bool
    building_s: float
    solving_s: float
    hinted: int | None = None


def solve_with_cp_sat(problem: Problem, limit_s: float, hint: Mapping[str, PeerID] | None = None) -> Answer:
    """Build the model and solve it; again from ``hint`` if that was no proof."""
    started = time.perf_counter()
    model: Any = cp_model.CpModel()
    cost: list[Any] = []
    hosts: Hosts = {}
    for w in problem.wanted:
        demand = demand_of(w.resources)
        mine = {
            p: model.new_bool_var("")
            for p, offer in enumerate(problem.offers)
            if not any(broken_rules(w, demand, offer, problem.excluded))
        }
        hosts[w.node_id] = mine
        if not mine:
            return Answer(None, is_proven=True, building_s=time.perf_counter() - started, solving_s=0.0)
        model.add_exactly_one(mine.values())
        cost += [node_points(w, demand, problem.offers[p], problem.weights) * literal for p, literal in mine.items()]
    _add_capacity(model, problem, hosts, cost)
    _add_edges(model, problem, hosts, cost)
    model.minimize(sum(cost))
    built = time.perf_counter()
    points, is_proven = _run(model, limit_s)
    solving_s, hinted = time.perf_counter() - built, None
    if hint and not is_proven:
        for node, mine in hosts.items():
            for p, literal in mine.items():
                model.add_hint(literal, problem.offers[p].peer == hint[node])
        hinted, _ = _run(model, limit_s)
    return Answer(points, is_proven, built - started, solving_s, hinted)


def _run(model: Any, limit_s: float) -> tuple[int | None, bool]:
    """The objective, if anything was found, and whether that is certain."""
    solver: Any = cp_model.CpSolver()
    solver.parameters.num_workers = WORKERS
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.random_seed = 1
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return round(solver.objective_value) if found else None, status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)


def _add_capacity(model: Any, problem: Problem, hosts: Hosts, cost: list[Any]) -> None:
    for p, offer in enumerate(problem.offers):
        here = [(demand_of(w.resources).amounts, hosts[w.node_id][p]) for w in problem.wanted if p in hosts[w.node_id]]
        if not here:
            continue
        if offer.free is not None:
            for dimension, have in enumerate(demand_of(offer.free).amounts):
                if any(amounts[dimension] for amounts, _ in here):
                    model.add(sum(amounts[dimension] * literal for amounts, literal in here) <= have)
        load = sum(literal for _, literal in here)
        if offer.free is None:
            model.add(load <= 1)
            continue
        pairs = model.new_int_var(0, len(here) * (len(here) - 1) // 2, "")
        for k in range(1, min(len(here), 8)):
            model.add(pairs >= k * load - k * (k + 1) // 2)  # the tangents of load (load - 1) / 2
        cost.append(spread_points(problem.weights) * pairs)


def _add_edges(model: Any, problem: Problem, hosts: Hosts, cost: list[Any]) -> None:
    """For each peer of the one end: some near enough peer at the other, and what the way there costs."""
    rows = [problem.measurements.rtts_of(offer.peer) for offer in problem.offers]
    peers = [offer.peer for offer in problem.offers]
    for edge in problem.edges:
        length = model.new_int_var(0, edge_points(problem.weights, edge.rtt_ms), "")
        cost.append(length)
        for s, t, has_cost in ((edge.s, edge.t, True), (edge.t, edge.s, False)):
            for p, literal in hosts[s].items():
                row = rows[p]
                near = [(q, 0.0 if q == p else row[peers[q]]) for q in hosts[t]]
                near = [(q, rtt_ms) for q, rtt_ms in near if rtt_ms <= edge.rtt_ms]
                model.add_bool_or([hosts[t][q] for q, _ in near]).only_enforce_if(literal)
                if has_cost and near:
                    literals = [hosts[t][q] for q, _ in near]
                    points = [edge_points(problem.weights, rtt_ms) for _, rtt_ms in near]
                    away = cp_model.LinearExpr.weighted_sum(literals, points)
                    model.add(length >= away).only_enforce_if(literal)
