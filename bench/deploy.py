"""From the request to a running task on another node, beside starting the same module by hand.

One task, three nodes of a local network, two of which bid. Each turn runs, one after the other: a deployment; the
same module in a child interpreter with the wasmtime package; in this process, compiled beforehand; and through the
executor directly, which is what a provider does in the end. The first turn warms everything and is not counted.

The phases are told apart by the stamps of the deployment's own journal; they share our clock.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import trio

from bench.by_hand import compile_module, run_module
from bench.networks import Bench
from bench.processes import NUNET, PYTHON, run
from bench.report import Report
from dms.cli.client import Client
from dms.cli.following import NAMESPACE, Deployment
from dms.devnet.profile import NetworkProfile
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.loading import load_ensemble
from dms.executor.protocol import ExecutionRequest
from dms.executor.wasm import WasmExecutor
from dms.node.payloads import DeploymentEvent, NewDeployment, NewDeploymentReply
from dms.types.resources import RAM, Resources

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TURNS = 9
COMMAND_TURNS = 3
TIMEOUT_S = 90.0
PAUSE_S = 0.3
"""Between turns, so that what a deployment leaves to be done after its end does not disturb the next."""
OVERHEAD_GOAL_S = 1.0

ENSEMBLE = """\
version: "V1"
allocations:
  count:
    type: task
    executor: wasm
    resources: {cpu: {cores: 0.25}, ram: {size: 64MiB}, disk: {size: 64MiB}}
    execution:
      type: wasm
      module: ${file:wordcount.wasm}
      args: ["-n", "10", /text]
      files: {/text/commons.txt: "${file:text/commons.txt}"}
nodes:
  one: {allocations: [count]}
"""

PHASES = (
    ("request → accepted, on disk", "request", "submitted"),
    ("accepted → bids requested", "submitted", "bids_requested"),
    ("bids requested → first bid", "bids_requested", "bid_received"),
    ("first bid → chosen", "bid_received", "bids_collected"),
    ("chosen → reserved", "bids_collected", "commits_done"),
    ("reserved → allocated", "commits_done", "allocates_done"),
    ("allocated → running", "allocates_done", "starts_done"),
    ("running → end reported", "starts_done", "allocation_ended"),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One deployment: seconds since the request, processor seconds of the orchestrator and of the providers."""

    moments: Mapping[str, float]
    """By event, the first of its kind; ``running`` and ``completed`` are when the client knew."""
    orchestrator_cpu_s: float
    providers_cpu_s: float


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("deploy", "how much longer does a task take to run on somebody's node than by hand?")
    files = _lay_out(bench.scratch / "deploy")
    config = load_ensemble(files / "ensemble.yaml", {}).config
    module, text, output = files / "wordcount.wasm", files / "text", files / "output"
    compiled = compile_module(module)
    by_hand = [PYTHON, *map(str, (Path(__file__).with_name("by_hand.py"), module, text, output))]
    turns: list[Turn] = []
    runs: dict[str, list[float]] = defaultdict(list)
    for _ in range(TURNS + 1):
        turns.append(_deploy(bench.client, bench.network, config))
        runs["child"].append(run(by_hand).wall_s)
        started = time.perf_counter()
        run_module(*compiled, text, output)
        runs["in process"].append(time.perf_counter() - started)
        start_s, end_s = trio.run(_execute, files, config)
        runs["executor start"].append(start_s)
        runs["executor end"].append(end_s)
        time.sleep(PAUSE_S)
    turns, runs = turns[1:], {name: values[1:] for name, values in runs.items()}
    _report(report, turns, runs)
    command = [NUNET, "deploy", "-f", files / "ensemble.yaml", "--wait"]
    commands = [run([str(part) for part in command], env=bench.environment) for _ in range(COMMAND_TURNS)]
    report.median("the whole command: nunet deploy --wait", [cost.wall_s for cost in commands], "s")
    return report


def _report(report: Report, turns: Sequence[Turn], runs: Mapping[str, Sequence[float]]) -> None:
    running = [turn.moments["running"] for turn in turns]
    completed = [turn.moments["completed"] for turn in turns]
    report.median("deploy: request → running", running, "s")
    report.median("deploy: request → completed", completed, "s")
    for name, begin, end in PHASES:
        report.median(f"  {name}", [max(0.0, turn.moments[end] - turn.moments[begin]) for turn in turns], "s")
    report.median("deploy: CPU of the orchestrator", [turn.orchestrator_cpu_s for turn in turns], "s")
    report.median("deploy: CPU of both providers", [turn.providers_cpu_s for turn in turns], "s")
    report.median("by hand: child interpreter, start → end", runs["child"], "s")
    report.median("by hand: in process, compiled before, start → end", runs["in process"], "s")
    report.median("executor alone: start → running", runs["executor start"], "s")
    report.median("executor alone: start → end", runs["executor end"], "s")
    overheads = [a - b for a, b in zip(running, runs["executor start"], strict=True)]
    overhead = report.median("overhead: request → running, less the executor's start", overheads, "s")
    report.ratio("request → running / executor's start → running", running, runs["executor start"])
    report.ratio("request → completed / executor's start → end", completed, runs["executor end"])
    report.ratio("request → completed / child interpreter's start → end", completed, runs["child"])
    report.ratio("executor's start → end / child interpreter's", runs["executor end"], runs["child"])
    report.goal("overhead of a deployment", overhead, OVERHEAD_GOAL_S, "s")


def _lay_out(folder: Path) -> Path:
    (folder / "text").mkdir(parents=True)
    shutil.copy(EXAMPLES / "programs" / "wordcount.wasm", folder)
    shutil.copy(EXAMPLES / "text" / "commons.txt", folder / "text")
    (folder / "ensemble.yaml").write_text(ENSEMBLE)
    return folder


def _deploy(client: Client, network: NetworkProfile, config: EnsembleConfig) -> Turn:
    """Submit, follow to the end, and look at the clocks."""
    own = [node for node in network.nodes if node.name == network.default_node]
    others = [node for node in network.nodes if node.name != network.default_node]
    before = [_cpu_s(node.pid for node in nodes) for nodes in (own, others)]
    epoch_ns, started = time.time_ns(), time.perf_counter()
    reply = client.call(f"{NAMESPACE}/new", NewDeployment(ensemble=config), NewDeploymentReply, timeout_s=TIMEOUT_S)
    deployment, moments = Deployment(client, reply.ensemble_id), {"request": 0.0}
    events: list[DeploymentEvent] = []
    status = ""
    for progress in deployment.follow():
        now = time.perf_counter() - started
        events.extend(progress.events)
        status = progress.status
        if "running" not in moments and any(event.kind == "starts_done" for event in progress.events):
            moments["running"] = now
        if progress.is_final:
            moments["completed"] = now
            break
    if status != "Completed" or "running" not in moments:
        raise RuntimeError(f"the deployment is {status}: {reply.error or deployment.status().error}")
    for event in events:
        moments.setdefault(event.kind, (event.at - epoch_ns) / 1e9)
    after = [_cpu_s(node.pid for node in nodes) for nodes in (own, others)]
    return Turn(moments, after[0] - before[0], after[1] - before[1])


async def _execute(files: Path, config: EnsembleConfig) -> tuple[float, float]:
    """The executor alone: seconds until its start returned, and until the program had ended."""
    allocation = config.v1.allocations["count"]
    async with trio.open_nursery() as nursery:
        executor = await WasmExecutor.open(nursery, files / "executor")
        request = ExecutionRequest(
            job_id="bench",
            execution_id="bench-1",
            engine=allocation.execution,
            resources=Resources(ram=RAM(size=allocation.resources.ram.size)),
            results_dir=files / "results",
        )
        started = time.perf_counter()
        await executor.start(request)
        start_s = time.perf_counter() - started
        result = await executor.wait("bench-1")
        end_s = time.perf_counter() - started
        if not result.ok:
            raise RuntimeError(f"the program failed: {result.error_msg}")
        await executor.remove("bench-1")
        nursery.cancel_scope.cancel()
    return start_s, end_s


def _cpu_s(pids: Iterable[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(t.user + t.system for t in times)
