"""Whole networks of which everything goes wrong that a seed chooses; ``make sim SEEDS=A-B`` takes more of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.sim.drawing import draw
from tests.sim.plan import ASKS, FAULTS, MOVES, JobPlan, NodePlan, PartPlan, Plan
from tests.sim.shrinking import shrink
from tests.sim.world import Outcome, simulate

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(1, 7))
def test_whatever_goes_wrong_the_invariants_hold(seed: int) -> None:
    outcome = simulate(draw(seed))
    assert not outcome.broken, f"make sim SEEDS={seed}-{seed}\n{outcome.broken}: {outcome.detail}"


def test_a_seed_repeats_its_run_exactly_in_any_process() -> None:
    """Seed 21 did not: whoever was watched was probed in the order of a set."""
    here = simulate(draw(21)).fingerprint
    script = "from tests.sim.drawing import draw; from tests.sim.world import simulate; print(simulate(draw(21)).fingerprint)"
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert elsewhere == here
    assert simulate(draw(5)).fingerprint != here


def test_seeds_draw_all_that_a_plan_can_hold() -> None:
    plans = [draw(seed) for seed in range(200)]
    assert {fault.kind for plan in plans for fault in plan.faults} == set(FAULTS)
    assert {node.byzantine for plan in plans for node in plan.nodes} == {"", *MOVES}
    jobs = [job for plan in plans for job in plan.jobs]
    assert {ask.kind for job in jobs for ask in job.asks} == set(ASKS)
    assert any(plan.far for plan in plans)
    assert any(plan.reordering for plan in plans)
    assert any(plan.has_meshes for plan in plans)
    assert {fault.amount for plan in plans for fault in plan.faults if fault.kind == "cut"} == {0.0, 1.0}
    for member in (
        "edges",
        "price",
        "queue_s",
        "run_for_s",
        "cron",
        "counts",
        "redundancy",
        "supervisor",
        "escalation",
        "pins",
    ):
        assert any(getattr(job, member) for job in jobs), member
    parts = [part for job in jobs for part in job.parts]
    for member in ("after", "public", "health", "crashes", "recovery", "update_fails"):
        assert any(getattr(part, member) for part in parts), member


def test_a_failing_plan_is_made_smaller_as_long_as_it_fails_in_the_same_way() -> None:
    def run(plan: Plan) -> Outcome:
        is_broken = any(fault.kind == "oom" for fault in plan.faults)
        return Outcome(plan, "served" if is_broken else "", "", "", 0)

    plan = next(p for p in map(draw, range(1000)) if len(p.faults) > 4 and len(p.jobs) > 1 and run(p).broken)
    small = shrink(run(plan), run).plan
    assert [fault.kind for fault in small.faults] == ["oom"]
    assert len(small.jobs) == 1
    assert len(small.nodes) < len(plan.nodes)
    assert shrink(run(plan), run).plan == small


ONE_SERVICE = JobPlan(
    name="j0", at_s=1, owner="o0", patience_s=75, nodes={"n0": (PartPlan(name="j0n00", type="service"),)}
)
PEACE = Plan(seed=1, nodes=(NodePlan(name="o0"), NodePlan(name="p0", cores=4)), jobs=(ONE_SERVICE,))


@pytest.mark.parametrize("seed", range(3))
def test_logs_that_count_as_complete_survive_a_power_cut(seed: int) -> None:
    """Found with seed 5: they were only in the cache of the system. Every run ends with a power cut everywhere."""
    part = PartPlan(name="j0n00", type="task", duration_s=1.0)
    job = replace(ONE_SERVICE, nodes={"n0": (part,)})
    outcome = simulate(replace(PEACE, seed=seed, jobs=(job,)))
    assert not outcome.broken, outcome.detail
