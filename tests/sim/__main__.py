"""``python -m tests.sim --seeds A-B``: simulate a network for each seed (``make sim SEEDS=A-B``), see
contributing/simulation.md.

1 when an invariant broke; each failing seed is told with the command that repeats it, and its plan, made smaller, is
written to a file that ``--plan`` runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
from tests.sim.drawing import draw
from tests.sim.plan import Plan
from tests.sim.shrinking import shrink
from tests.sim.world import Outcome, simulate

SHOWN_EVENTS = 25
MAX_SHOWN_CHARS = 2000
TOLD_EVERY = 100


def main() -> int:
    """Prints what broke, and a summary."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="1-20", help="A-B, or one (default 1-20)")
    parser.add_argument("--plan", type=Path, help="run this plan instead")
    parser.add_argument("--story", action="store_true", help="print all events of each run")
    parser.add_argument("--no-shrink", action="store_true", help="leave failing plans as they are")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per processor)")
    parser.add_argument("--out", type=Path, default=Path(".cache/sim"), help="where smaller plans go")
    options = parser.parse_args()
    if options.plan:
        return _tell(simulate(msgspec.json.decode(options.plan.read_bytes(), type=Plan)), options)
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    begun_s, failed = time.monotonic(), list[int]()
    with ProcessPoolExecutor(max_workers=min(options.jobs, len(seeds))) as pool:
        chunk = max(1, min(10, len(seeds) // (4 * options.jobs)))
        for number, outcome in enumerate(pool.map(run_seed, seeds, chunksize=chunk), 1):
            if outcome.broken or options.story:
                _tell(outcome, options)
            if outcome.broken:
                failed.append(outcome.plan.seed)
            if number % TOLD_EVERY == 0 and number < len(seeds):
                print(f"sim: {number} seeds, {len(failed)} failed, {time.monotonic() - begun_s:.0f} s", flush=True)
    print(f"sim: {len(seeds)} seeds ({options.seeds}), {len(failed)} failed, {time.monotonic() - begun_s:.0f} s")
    if failed:
        print(f"sim: failed: {' '.join(map(str, failed))}")
    return 1 if failed else 0


def run_seed(seed: int) -> Outcome:
    """The outcome of a seed."""
    return simulate(draw(seed))


def _tell(outcome: Outcome, options: argparse.Namespace) -> int:
    seed = outcome.plan.seed
    if options.story:
        print("\n".join(outcome.story))
    if not outcome.broken:
        print(f"sim: seed {seed}: all holds; {outcome.events} events, {outcome.fingerprint[:16]}")
        return 0
    print(f'\nsim: seed {seed} breaks "{outcome.broken}": {outcome.detail[-MAX_SHOWN_CHARS:]}')
    print(f"     again: make sim SEEDS={seed}-{seed}", flush=True)
    if not options.plan and not options.no_shrink:
        small = shrink(outcome)
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{seed}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(small.plan)))
        plan = small.plan
        print(
            f"     smaller, {len(plan.nodes)} machines, {len(plan.jobs)} jobs, {len(plan.faults)} faults: "
            f"make sim ARGS='--plan {path}'\n     {small.detail[-MAX_SHOWN_CHARS:]}"
        )
        outcome = small
    for line in outcome.story[-SHOWN_EVENTS:]:
        print(f"       {line}")
    sys.stdout.flush()
    return 1


if __name__ == "__main__":
    sys.exit(main())
