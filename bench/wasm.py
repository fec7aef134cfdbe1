"""From the order to the end of a WebAssembly program that says a line, beside Wasmtime alone; and how many of them fit
into a second.

All of them find the program compiled. What is compared takes turns: through the executor (a module, and a component that
says nothing); a child interpreter with the wasmtime package, which is what somebody would write by hand; and, where there
is a C compiler, a program that calls Wasmtime's library and does nothing else, which no start can be below.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import trio
import wasmtime

from bench.networks import Bench
from bench.processes import PYTHON
from bench.report import Report
from dms.executor.protocol import ExecutionRequest
from dms.executor.wasm import WasmExecutor
from dms.executor.wasm_process import library_path
from dms.types.resources import RAM, Resources, SpecConfig

What = TypeVar("What")

TURNS = 21
AT_ONCE = 2 * (os.cpu_count() or 1)
RATE_RUNS = 120
START_GOAL = 2.0

MODULE = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\06\\00\\00\\00hello\\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
"""
COMPONENT = """
(component
  (core module $program (func (export "run") (result i32) (i32.const 0)))
  (core instance $program (instantiate $program))
  (func $run (result (result)) (canon lift (core func $program "run")))
  (instance $out (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $out)))
"""


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("wasm", "how much longer does a WebAssembly program take to start than with Wasmtime alone?")
    scratch = bench.scratch / "wasm"
    scratch.mkdir(parents=True)
    ways = _lay_out(scratch)
    runs, rates = trio.run(_take_turns, scratch, ways)
    report.median("executor: order → end, a module", runs["module"], "s")
    report.median("executor: order → end, a component", runs["component"], "s")
    report.median("by hand: child interpreter, start → end", runs["by hand"], "s")
    if "bare" in ways:
        report.median("Wasmtime's library in a C program, start → end", runs["bare"], "s")
    report.single(f"executor: programs per second, {AT_ONCE} at once", rates["module"], "1/s")
    report.single(f"by hand: programs per second, {AT_ONCE} at once", rates["by hand"], "1/s")
    ratio = report.ratio("executor / child interpreter, order → end", runs["module"], runs["by hand"])
    report.ratio("executor, component / module", runs["component"], runs["module"])
    if "bare" in ways:
        report.single(f"C program: programs per second, {AT_ONCE} at once", rates["bare"], "1/s")
        report.ratio("executor / C program, order → end", runs["module"], runs["bare"])
    report.goal("executor / child interpreter, order → end", ratio, START_GOAL, "×")
    return report


def _lay_out(scratch: Path) -> dict[str, Sequence[str]]:
    """Commands that run the module without us, by name."""
    compiled = scratch / "module.cwasm"
    compiled.write_bytes(wasmtime.Module(wasmtime.Engine(), MODULE).serialize())
    here = Path(__file__).parent
    output = str(scratch / "by-hand.txt")
    ways: dict[str, Sequence[str]] = {
        "by hand": (PYTHON, str(here / "wasm_by_hand.py"), str(compiled), output),
    }
    if compiler := shutil.which("cc"):
        program = scratch / "wasm_bare"
        subprocess.run([compiler, "-O1", "-o", program, here / "wasm_bare.c", "-ldl"], check=True)
        ways["bare"] = (str(program), library_path(), str(compiled))
    return ways


async def _take_turns(
    scratch: Path, ways: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    runs: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, float] = {}
    async with trio.open_nursery() as nursery:
        executor = await WasmExecutor.open(nursery, scratch / "state")
        ours = _Ours(executor, scratch)
        for _ in range(TURNS + 1):
            for name, text in (("module", MODULE), ("component", COMPONENT)):
                runs[name].append(await _timed(ours.run, text))
            for name, command in ways.items():
                runs[name].append(await _timed(_run_command, command))
        rates["module"] = await _rate(ours.run, MODULE)
        for name, command in ways.items():
            rates[name] = await _rate(_run_command, command)
        await executor.cleanup()
        nursery.cancel_scope.cancel()
    return {name: values[1:] for name, values in runs.items()}, rates


class _Ours:
    """Runs programs through the executor, each under an id of its own."""

    def __init__(self, executor: WasmExecutor, scratch: Path) -> None:
        self._executor, self._scratch, self._count = executor, scratch, 0
        self._encoded = {text: base64.b64encode(wasmtime.wat2wasm(text)).decode() for text in (MODULE, COMPONENT)}

    async def run(self, text: str) -> None:
        self._count += 1
        id_ = f"run-{self._count}"
        engine = SpecConfig(type="wasm", params={"module": self._encoded[text]})
        request = ExecutionRequest("bench", id_, engine, Resources(ram=RAM(size=1 << 26)), self._scratch / "out" / id_)
        result = await self._executor.run(request)
        if not result.ok:
            raise RuntimeError(f"the program failed: {result.error_msg}")
        await self._executor.remove(id_)


async def _run_command(command: Sequence[str]) -> None:
    await trio.run_process(command, stdout=subprocess.DEVNULL)


async def _timed(run: Callable[[What], Awaitable[None]], what: What) -> float:
    started = time.perf_counter()
    await run(what)
    return time.perf_counter() - started


async def _rate(run: Callable[[What], Awaitable[None]], what: What) -> float:
    """Runs per second, a few of them at once."""
    left = RATE_RUNS

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await run(what)

    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)
    return RATE_RUNS / (time.perf_counter() - started)
