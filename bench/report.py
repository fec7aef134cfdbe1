"""What a benchmark found: figures, ratios of figures, goals; as a table and as a file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.machine import Machine

RESULTS = Path(__file__).resolve().parent / "results"


class Figure(msgspec.Struct, frozen=True):
    """One quantity: the median of its ``runs`` (or the only one), with its unit."""

    name: str
    value: float
    unit: str
    runs: tuple[float, ...] = ()


class Ratio(msgspec.Struct, frozen=True):
    """One figure over another: the median of the ratios of the single turns, which a load that comes and goes moves least."""

    name: str
    value: float


class Goal(msgspec.Struct, frozen=True):
    """A figure that should keep a bound. Reported, never enforced: a busy machine is not a defect."""

    name: str
    value: float
    unit: str
    is_met: bool
    at_most: float | None = None
    at_least: float | None = None


class Report(msgspec.Struct):
    """All that one benchmark found."""

    name: str
    question: str
    figures: list[Figure] = []
    ratios: list[Ratio] = []
    goals: list[Goal] = []

    def median(self, name: str, runs: Sequence[float], unit: str) -> float:
        """Add a figure measured several times; its median."""
        value = statistics.median(runs)
        self.figures.append(Figure(name, _rounded(value), unit, tuple(_rounded(run) for run in runs)))
        return value

    def single(self, name: str, value: float, unit: str) -> float:
        """Add a figure that was derived or measured once."""
        self.figures.append(Figure(name, _rounded(value), unit))
        return value

    def ratio(self, name: str, over: Sequence[float], under: Sequence[float]) -> float:
        """Add what one figure is of another, turn by turn; the median."""
        value = statistics.median(a / b for a, b in zip(over, under, strict=True))
        self.ratios.append(Ratio(name, _rounded(value)))
        return value

    def goal(self, name: str, value: float, at_most: float, unit: str) -> None:
        """Add an upper bound, and whether it holds."""
        self.goals.append(Goal(name, _rounded(value), unit, value <= at_most, at_most=at_most))

    def goal_at_least(self, name: str, value: float, at_least: float, unit: str) -> None:
        """Add a lower bound, and whether it holds."""
        self.goals.append(Goal(name, _rounded(value), unit, value >= at_least, at_least=at_least))


class _Document(msgspec.Struct):
    """The file: the report with its circumstances."""

    benchmark: str
    question: str
    measured_at: str
    machine: Machine
    load_average: tuple[float, float]
    """Of the last minute, before and after."""
    goals: list[Goal]
    ratios: list[Ratio]
    figures: list[Figure]


def write_report(report: Report, machine: Machine, measured_at: str, load: tuple[float, float]) -> Path:
    """Write ``results/<name>.json``."""
    document = _Document(
        report.name, report.question, measured_at, machine, load, report.goals, report.ratios, report.figures
    )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{report.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return path


def print_report(report: Report) -> None:
    """The same for people."""
    print(f"\n{report.name}: {report.question}")
    for figure in report.figures:
        spread = f"   {min(figure.runs):g} … {max(figure.runs):g}" if len(figure.runs) > 1 else ""
        print(f"  {figure.name:<58} {figure.value:>10g} {figure.unit:<4}{spread}")
    for ratio in report.ratios:
        print(f"  {ratio.name:<58} {ratio.value:>10g} ×")
    for goal in report.goals:
        verdict = "met" if goal.is_met else "MISSED"
        bound = f"at least {goal.at_least:g}" if goal.at_most is None else f"at most {goal.at_most:g}"
        print(f"  {goal.name:<58} {goal.value:>10g} {goal.unit:<4}   goal: {bound}: {verdict}")


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
