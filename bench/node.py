"""Start, end and memory of a node, beside what of it the network library alone costs.

Each turn starts, one after the other: a bare interpreter; one that imports the network library; one that imports the
whole service; and a node with keys and offered resources that exist already, until it answers on its REST address. The
last node is left alone for a while, and then its memory and its processor time are looked at.
"""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from pathlib import Path

import psutil
import trio

from bench.networks import Bench
from bench.processes import Cost, run_python
from bench.report import Report
from dms.devnet import prepare, processes
from dms.devnet.plan import NodePlan, plan_nodes

TURNS = 4
IDLE_S = 10.0
POLL_S = 0.01
GIVE_UP_S = 60.0
MEMORY_GOAL_MB = 150.0
MB = 1e6

IMPORTS = {
    "python -c pass": "pass",
    "import libp2p": "from dms.network.libp2p import _placeholder; _placeholder.install(); import libp2p",
    "import dms.app": "import dms.app",
}


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("node", "how long does a node take to start, and what does it hold when nothing happens?")
    folder = bench.scratch / "node"
    folder.mkdir()
    passphrase, node = _prepare(folder)
    costs: dict[str, list[Cost]] = defaultdict(list)
    ready: list[float] = []
    cpu: list[float] = []
    stopped: list[float] = []
    idle_mb = 0.0
    for turn in range(TURNS + 1):
        for name, code in IMPORTS.items():
            costs[name].append(run_python(code))
        started = time.perf_counter()
        child = processes.start(node, passphrase)
        process = psutil.Process(child.pid)
        try:
            _await_health(node)
            ready.append(time.perf_counter() - started)
            cpu.append(_cpu_s(process))
            if turn == TURNS:
                idle_mb = _look_at_idle(report, process)
            stopped.append(_stop_s(child))
        finally:
            processes.stop_all(list(processes.nodes_in(node.directory).values()))
            child.wait()
    report.median("node: start → ready", ready[1:], "s")
    report.median("node: start → ready, CPU", cpu[1:], "s")
    report.median("node: SIGTERM → ended", stopped[1:], "s")
    for name, found in costs.items():
        report.median(f"{name}: wall", [cost.wall_s for cost in found[1:]], "s")
        report.median(f"{name}: CPU", [cost.cpu_s for cost in found[1:]], "s")
        report.median(f"{name}: memory at its end", [cost.memory_bytes / MB for cost in found[1:]], "MB")
    library, bare = costs["import libp2p"][1:], costs["python -c pass"][1:]
    report.ratio("node: start → ready / import libp2p", ready[1:], [cost.wall_s for cost in library])
    report.ratio("node: start → ready / import libp2p, CPU", cpu[1:], [cost.cpu_s for cost in library])
    report.ratio("idle node / import libp2p, memory", [idle_mb], [library[-1].memory_bytes / MB])
    report.ratio("idle node / python -c pass, memory", [idle_mb], [bare[-1].memory_bytes / MB])
    report.goal("resident memory of an idle node", idle_mb, MEMORY_GOAL_MB, "MB")
    return report


def _stop_s(node: subprocess.Popen[bytes]) -> float:
    """End it in order; how long that takes."""
    begun = time.perf_counter()
    node.terminate()
    if node.wait(GIVE_UP_S) != 0:
        raise RuntimeError(f"the node ended with {node.returncode}")
    return time.perf_counter() - begun


def _look_at_idle(report: Report, process: psutil.Process) -> float:
    """Wait, and tell its resident memory."""
    before = _cpu_s(process)
    time.sleep(IDLE_S)
    memory = process.memory_full_info()
    report.single("node: of that its own (USS)", memory.uss / MB, "MB")
    report.single("node: CPU when idle", 100 * (_cpu_s(process) - before) / IDLE_S, "%")
    return report.single("node: resident memory when idle", memory.rss / MB, "MB")


def _prepare(folder: Path) -> tuple[str, NodePlan]:
    (node,) = plan_nodes(folder, 1, 1)
    _, passphrase = prepare.write_passphrase(folder)
    prepare.make_node(node, prepare.make_user(folder / "user", passphrase), passphrase)
    prepare.write_config(node, ())
    trio.run(prepare.onboard, node, 1)
    return passphrase, node


def _await_health(node: NodePlan) -> None:
    give_up = time.monotonic() + GIVE_UP_S
    while processes.read_health(node.rest_port) is None:
        if time.monotonic() > give_up:
            raise RuntimeError(f"the node does not answer: {processes.last_words(node.output_file)}")
        time.sleep(POLL_S)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
