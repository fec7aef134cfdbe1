"""Runs targets on mutated inputs for a time, keeps what led somewhere new, and what must not be.

An input is interesting when its outcome was never seen: the corpus grows by the paths through the decoders, and next time
the search begins there. Findings are kept as ``finding-…`` and fail the run; once mended they stay as a test.
"""

from __future__ import annotations

import hashlib
import random
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import Target

CORPUS: Final = Path(__file__).parent / "corpus"
SLOW_S: Final = 5.0
"""Processor time for one input of at most 200,000 bytes; the slowest honest one is the largest key derivation allowed."""
MAX_KEPT_BYTES: Final = 4096
MAX_KEPT: Final = 120
"""Interesting inputs of one target that are kept, the shortest of each outcome."""


@dataclass
class Report:
    """What a run did."""

    target: str
    runs: int = 0
    outcomes: dict[str, bytes] = field(default_factory=dict)
    findings: list[tuple[bytes, str]] = field(default_factory=list)
    slowest_s: float = 0.0


def inputs_of(target: Target, corpus: Path = CORPUS) -> list[bytes]:
    """Seeds, and what was found before."""
    kept = sorted((corpus / target.name).glob("*")) if (corpus / target.name).is_dir() else []
    return [*target.seeds(), *(path.read_bytes() for path in kept)]


def examine(target: Target, data: bytes, report: Report) -> bool:
    """Run one input; whether its outcome is new."""
    report.runs += 1
    begin_s = time.process_time()
    try:
        outcome = target.outcome(data)
    except Exception as exc:  # noqa: BLE001  whatever it is, it is a finding
        summary = "".join(traceback.format_exception(exc)[-3:])
        if all(summary.splitlines()[-1] != known.splitlines()[-1] for _, known in report.findings):
            report.findings.append((data, summary))
        return False
    took_s = time.process_time() - begin_s
    report.slowest_s = max(report.slowest_s, took_s)
    if took_s > SLOW_S:
        report.findings.append((data, f"{took_s:.1f} s of processor time"))
    known = report.outcomes.get(outcome)
    if known is not None and len(known) <= len(data):
        return False
    report.outcomes[outcome] = data
    return known is None


def run(target: Target, rng: random.Random, go_on: Callable[[int], bool], inputs: Iterable[bytes]) -> Report:
    """Mutate until ``go_on``, told how many inputs were run, says no."""
    report = Report(target.name)
    pool = list(inputs)
    for data in pool:
        examine(target, data, report)
    while go_on(report.runs):
        data = mutate(rng, rng.choice(pool), pool)
        if examine(target, data, report):
            pool.append(data)
    return report


def keep(report: Report, corpus: Path = CORPUS, *, interesting: bool = True) -> list[Path]:
    """Write findings, and the shortest input of every outcome that the corpus does not have; what was written."""
    folder = corpus / report.target
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    chosen = [("finding", data) for data, _ in report.findings]
    if interesting:
        short = sorted((d for d in report.outcomes.values() if len(d) <= MAX_KEPT_BYTES), key=lambda d: (len(d), d))
        chosen += [("input", data) for data in short[:MAX_KEPT]]
        for old in folder.glob("input-*"):
            old.unlink()
    for kind, data in chosen:
        path = folder / f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}"
        path.write_bytes(data)
        written.append(path)
    return written
