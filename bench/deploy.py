"""From the request to a running task on another node, beside starting the same module by hand.

One task, three nodes of a local network, two of which bid. Each turn runs, one after the other: a deployment; the
same module in a child interpreter with the wasmtime package; in this process, compiled beforehand; and through the
executor directly, which is what a provider does in the end. The first turn warms everything and is not counted.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from bench.by_hand import compile_module, run_module
from bench.deploying import OVERHEAD_GOAL_S, Turn, deploy, report_turns
from bench.networks import Bench
from bench.processes import NUNET, PYTHON, run
from bench.report import Report
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.loading import load_ensemble
from dms.executor.protocol import ExecutionRequest
from dms.executor.wasm import WasmExecutor
from dms.types.resources import RAM, Resources

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TURNS = 9
COMMAND_TURNS = 3
PAUSE_S = 0.3
"""Between turns, so that what a deployment leaves to be done after its end does not disturb the next."""

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
        turns.append(deploy(bench.client, bench.network, config))
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
    running, completed = report_turns(report, turns)
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
