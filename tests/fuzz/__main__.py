"""``python -m tests.fuzz``: fuzz all targets, or some, for a time (``make fuzz``)."""

from __future__ import annotations

import argparse
import logging
import random
import resource
import secrets
import sys
import time
from collections.abc import Callable

from tests.fuzz import runner
from tests.fuzz.targets import TARGETS

MEMORY_BYTES = 4 << 30


def main() -> int:
    """Prints a line per target; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (default 60)")
    parser.add_argument("--inputs", type=int, default=None, help="stop a target after so many, before its time is over")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run, as far as time allows")
    parser.add_argument("--keep", action="store_true", help="add what led somewhere new to the corpus")
    options = parser.parse_args()
    logging.disable()  # what a decoder tells of an input is not the question
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    seed = secrets.randbits(32) if options.seed is None else options.seed
    names = options.target or list(TARGETS)
    print(f"fuzz: {len(names)} targets, {options.seconds:g} s, --seed {seed}")
    found = 0
    for name in names:
        target = TARGETS[name]
        report = runner.run(
            target,
            random.Random(f"{seed}/{name}"),
            _until(options.seconds / len(names), options.inputs),
            runner.inputs_of(target),
        )
        runner.keep(report, interesting=options.keep)
        print(
            f"  {name:13} {report.runs:7} inputs, {len(report.outcomes):3} outcomes, slowest {report.slowest_s:.2f} s, "
            f"{len(report.findings)} findings",
            flush=True,
        )
        for data, what in report.findings:
            found += 1
            print(f"    {data[:300]!r}\n    {what}")
    return 1 if found else 0


def _until(seconds: float, inputs: int | None) -> Callable[[int], bool]:
    end_s = time.monotonic() + seconds
    return lambda runs: (inputs is None or runs < inputs) and time.monotonic() < end_s


if __name__ == "__main__":
    sys.exit(main())
