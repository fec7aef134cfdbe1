"""Looking at the machine: all probes together, what a question about usage costs, and `nunet gpu list`.

Beside reading the same of the kernel's files and nothing more, which is what no probe can do without.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from bench.networks import Bench
from bench.processes import NUNET, PYTHON, Cost, clean_environment, run
from bench.report import Report
from dms.hardware.amd import AmdSource
from dms.hardware.drm import Memory
from dms.hardware.gpus import GPUProbe
from dms.hardware.intel import IntelSource
from dms.hardware.machine import MachineProbe
from dms.hardware.nvidia import NvidiaSource
from dms.testing.machines import RecordedNVML, plant

TURNS = 30
COMMAND_TURNS = 7
PROBE_GOAL_S = 0.3
VRAM_BYTES = 16 << 30

FIRST = """
import time
begun = time.perf_counter()
import trio
from pathlib import Path
from dms.hardware.machine import MachineProbe
imported = time.perf_counter()
trio.run(MachineProbe(Path(".")).inventory)
print(time.perf_counter() - imported, time.perf_counter() - begun)
"""
FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self/mountinfo", "/proc/net/dev")


def measure(bench: Bench) -> Report:
    """See the module."""
    logging.getLogger("dms").addHandler(logging.NullHandler())  # that a written-down device has no driver is no news
    report = Report("hardware", "how long does it take to see what a machine has, and what is busy?")
    env = clean_environment()
    first, imported = [], []
    for turn in range(COMMAND_TURNS + 1):
        told = bench.scratch / "first"
        run([PYTHON, "-c", FIRST], env=env, stdout=told)
        if turn:
            probing, everything = (float(word) for word in told.read_text("ascii").split())
            first.append(probing)
            imported.append(everything)
    all_first = report.median("all probes, first time in a process", first, "s")
    report.median("all probes, first time, imports included", imported, "s")
    trio.run(_in_process, report, bench.scratch)
    _commands(report, env)
    report.goal("all probes, first time in a process", all_first, PROBE_GOAL_S, "s")
    return report


async def _in_process(report: Report, scratch: Path) -> None:
    root = plant("nvidia", plant("amd", plant("intel", scratch / "machine")))
    sources = (NvidiaSource(RecordedNVML), AmdSource(), IntelSource(lambda _driver, _node: Memory(VRAM_BYTES)))
    seven = GPUProbe(sources, root=root)
    plain = MachineProbe(scratch)
    times: dict[str, list[float]] = defaultdict(list)
    processor: list[float] = []
    for turn in range(TURNS + 1):
        found = {
            "bare": _bare(),
            "all": await _timed(plain.inventory),
            "resources": await _timed(plain.machine),
            "seven": await _timed(seven.gpus),
        }
        before = time.process_time()
        await plain.usage_since((0.0, 0.0))
        if turn:
            processor.append(time.process_time() - before)
            for name, passed in found.items():
                times[name].append(passed)
    report.median("kernel's files, bare", times["bare"], "s")
    report.median("all probes, again", times["all"], "s")
    report.median("resources of the machine, again", times["resources"], "s")
    report.median("seven GPUs of three vendors, written down", times["seven"], "s")
    report.median("one sample of usage: CPU", processor, "s")
    report.ratio("all probes, again / kernel's files, bare", times["all"], times["bare"])


def _commands(report: Report, env: dict[str, str]) -> None:
    commands = {"python -c pass": [PYTHON, "-c", "pass"], "nunet gpu list": [NUNET, "gpu", "list"]}
    costs: dict[str, list[Cost]] = defaultdict(list)
    for turn in range(COMMAND_TURNS + 1):
        for name, command in commands.items():
            cost = run(command, env=env)
            if turn:
                costs[name].append(cost)
    listing, bare = ([cost.cpu_s for cost in costs[name]] for name in ("nunet gpu list", "python -c pass"))
    report.median("nunet gpu list: CPU", listing, "s")
    report.ratio("nunet gpu list / python -c pass, CPU", listing, bare)


def _bare() -> float:
    begun = time.perf_counter()
    for name in FILES:
        Path(name).read_bytes()
    os.statvfs("/")
    return time.perf_counter() - begun


async def _timed(probe: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await probe()
    return time.perf_counter() - begun
