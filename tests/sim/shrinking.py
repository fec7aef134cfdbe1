"""A failing plan made smaller while it still fails in the same way: fewer faults, jobs and machines, less noise.

Deterministic: the same plan becomes the same smaller one, within a number of runs, not a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from msgspec.structs import replace
from tests.sim.plan import JobPlan, NodePlan, PartPlan, Plan
from tests.sim.world import Outcome, simulate

MAX_RUNS: Final = 80

T = TypeVar("T")


def shrink(outcome: Outcome, run: Callable[[Plan], Outcome] = simulate, *, max_runs: int = MAX_RUNS) -> Outcome:
    """The smallest plan found that breaks the same invariant."""
    best, left = outcome, max_runs
    is_smaller = True
    while is_smaller and left > 0:
        is_smaller = False
        for plan in smaller(best.plan):
            left -= 1
            found = run(plan)
            if found.broken == best.broken:
                best, is_smaller = found, True
                break
            if left <= 0:
                break
    return best


def smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with a little less in them, the boldest first."""
    if len(plan.faults) > 1:
        half = len(plan.faults) // 2
        yield replace(plan, faults=plan.faults[:half])
        yield replace(plan, faults=plan.faults[half:])
    for number in range(len(plan.faults)):
        yield replace(plan, faults=_without(plan.faults, number))
    for number in range(len(plan.jobs)):
        if len(plan.jobs) > 1:
            yield replace(plan, jobs=_without(plan.jobs, number))
    for node in plan.nodes:
        if not _is_needed(plan, node):
            yield replace(
                plan,
                nodes=tuple(n for n in plan.nodes if n is not node),
                far=tuple(pair for pair in plan.far if node.name not in pair),
            )
    for number, job in enumerate(plan.jobs):
        for less in _smaller_jobs(job):
            yield replace(plan, jobs=(*plan.jobs[:number], less, *plan.jobs[number + 1 :]))
    for number, node in enumerate(plan.nodes):
        plain = NodePlan(name=node.name, cores=node.cores)
        for tamer in (
            plain,
            replace(node, byzantine=""),
            replace(node, city="", says=""),
            replace(node, disk_pause_s=0.0, ahead_s=0.0),
        ):
            if tamer != node:
                yield replace(plan, nodes=(*plan.nodes[:number], tamer, *plan.nodes[number + 1 :]))
    quiet = replace(plan, jitter_s=0.0, loss=0.0, duplication=0.0, reordering=0.0, has_meshes=False)
    for calmer in (quiet, replace(plan, delay_s=0.01), replace(plan, far=())):
        if calmer != plan:
            yield calmer


def _is_needed(plan: Plan, node: NodePlan) -> bool:
    if any(node.name in fault.nodes for fault in plan.faults):
        return True
    if any(node.name in (job.owner, *job.pins.values()) for job in plan.jobs):
        return True
    return node.cores > 0 and sum(1 for n in plan.nodes if n.cores) == 1


def _smaller_jobs(job: JobPlan) -> Iterator[JobPlan]:
    for name, parts in job.nodes.items():
        if len(job.nodes) > 1:
            yield _tidy(replace(job, nodes={n: p for n, p in job.nodes.items() if n != name}))
        if len(parts) > 1:
            for number in range(len(parts)):
                yield _tidy(replace(job, nodes={**job.nodes, name: _without(parts, number)}))
        for number, part in enumerate(parts):
            calm = replace(part, start_takes_s=0.0, cancel_takes_s=0.0, ports=0, public=0, cores=1.0, exit_code=0)
            for plain in (calm, replace(part, crashes=0, health=""), replace(part, after=())):
                if plain != part:
                    yield _tidy(replace(job, nodes={**job.nodes, name: (*parts[:number], plain, *parts[number + 1 :])}))
    for number in range(len(job.asks)):
        yield replace(job, asks=_without(job.asks, number))
    without: tuple[dict[str, object], ...] = (
        {"shutdown_at_s": None},
        {"pins": {}},
        {"counts": {}},
        {"edges": ()},
        {"price": 0.0, "queue_s": 0.0, "run_for_s": 0.0},
        {"redundancy": 0},
        {"supervisor": "", "escalation": ""},
        {"node_recovery": ""},
    )
    for members in without:
        less = replace(job, **members)
        if less != job:
            yield less


def _tidy(job: JobPlan) -> JobPlan:
    """Nothing is said any more of what is not there."""
    parts = {part.name: part for part in job.parts}
    healthy = {name for name, part in parts.items() if part.health}

    def tidy(part: PartPlan) -> PartPlan:
        known = (d for d in part.after if d.part in parts and (d.condition != "healthy" or d.part in healthy))
        return replace(part, after=tuple(known))

    return replace(
        job,
        nodes={name: tuple(map(tidy, parts)) for name, parts in job.nodes.items()},
        pins={node: machine for node, machine in job.pins.items() if node in job.nodes},
        counts={node: count for node, count in job.counts.items() if node in job.nodes},
        edges=tuple(edge for edge in job.edges if edge.s in job.nodes and edge.t in job.nodes),
        asks=tuple(ask for ask in job.asks if ask.part in parts),
    )


def _without(ones: tuple[T, ...], number: int) -> tuple[T, ...]:
    return (*ones[:number], *ones[number + 1 :])
