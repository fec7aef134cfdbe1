"""What a program writes, on its way into the log and out of it, beside writing the same bytes to a plain file.

A program writes lines, 64 KiB at a time: into the log on its own, into the log while somebody follows it, and afterwards
the log is read once more. The log file alone, without any program, is told too, up to its limit and far beyond it.
"""

from __future__ import annotations

import base64
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import trio
import wasmtime

from bench.networks import Bench
from bench.report import Report
from dms.executor.detached import LogFile
from dms.executor.protocol import ExecutionRequest, LogStreamRequest
from dms.executor.wasm import WasmExecutor
from dms.types.resources import RAM, Resources, SpecConfig

TURNS = 7
BLOCK_BYTES = 1 << 16
BLOCKS = 800
ALL_BYTES = BLOCK_BYTES * BLOCKS
"""Less than an executor keeps, so that nothing is left out."""
LINE = b"a line of a usual length, as programs write them when they say\n"
LIMIT_BYTES = 64 << 20
ENDLESS_BYTES = 512 << 20

PROGRAM = f"""
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 3)
  (func (export "_start") (local $left i32) (local $place i32)
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const {BLOCK_BYTES}))
    (loop $fill
      (i32.store8 (i32.add (i32.const 65536) (local.get $place))
        (select (i32.const 10) (i32.const 97) (i32.eqz (i32.and (i32.add (local.get $place) (i32.const 1)) (i32.const 63)))))
      (local.set $place (i32.add (local.get $place) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $place) (i32.const {BLOCK_BYTES}))))
    (local.set $left (i32.const {{blocks}}))
    (block $done (loop $again
      (br_if $done (i32.eqz (local.get $left)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br $again)))))
"""


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("logs", "how fast does output go into a log, and out of it to somebody who follows?")
    scratch = bench.scratch / "logs"
    scratch.mkdir(parents=True)
    runs = trio.run(_take_turns, scratch)
    rates = {name: [ALL_BYTES / 1e6 / seconds for seconds in found] for name, found in runs.items()}
    endless = [ENDLESS_BYTES / 1e6 / seconds for seconds in runs.pop("endless")]
    report.median("plain file", rates["plain"], "MB/s")
    report.median("log file alone", rates["log file"], "MB/s")
    report.median("log file alone, far beyond its limit", endless, "MB/s")
    report.median("program, until all is in its log", rates["program"], "MB/s")
    report.median("program, until all is with its follower", rates["followed"], "MB/s")
    report.median("reading the log afterwards", rates["read"], "MB/s")
    report.ratio("log file / plain file, time", runs["log file"], runs["plain"])
    report.ratio("program / plain file, time", runs["program"], runs["plain"])
    report.ratio("followed / not followed, time", runs["followed"], runs["program"])
    return report


async def _take_turns(scratch: Path) -> dict[str, list[float]]:
    runs: dict[str, list[float]] = defaultdict(list)
    block = (LINE * (BLOCK_BYTES // len(LINE) + 1))[:BLOCK_BYTES]
    async with trio.open_nursery() as nursery:
        executor = await WasmExecutor.open(nursery, scratch / "state")
        programs = {name: _program(count) for name, count in (("flood", BLOCKS), ("nothing", 0))}
        for turn in range(TURNS + 1):
            times = {
                "plain": _timed(lambda: _plain(scratch / "plain", block)),
                "log file": _timed(lambda: _log_file(scratch / "log-file", block, BLOCKS)),
                "endless": _timed(lambda: _log_file(scratch / "endless", block, ENDLESS_BYTES // BLOCK_BYTES)),
            }
            start_s = await _run(executor, scratch, f"nothing-{turn}", programs["nothing"])
            for name, is_followed in (("program", False), ("followed", True)):
                id_ = f"{name}-{turn}"
                whole_s = await _run(executor, scratch, id_, programs["flood"], is_followed=is_followed)
                times[name] = max(whole_s - start_s, 1e-6)  # the start is not what is asked for
            begun = time.perf_counter()
            assert await _read(executor, f"program-{turn}", follow=False) == ALL_BYTES
            times["read"] = time.perf_counter() - begun
            if turn:  # the first warms caches
                for name, seconds in times.items():
                    runs[name].append(seconds)
            for name in ("nothing", "program", "followed"):
                await executor.remove(f"{name}-{turn}")
        await executor.cleanup()
        nursery.cancel_scope.cancel()
    return runs


def _program(blocks: int) -> str:
    return base64.b64encode(wasmtime.wat2wasm(PROGRAM.replace("{blocks}", str(blocks)))).decode()


async def _run(executor: WasmExecutor, scratch: Path, id_: str, module: str, *, is_followed: bool = False) -> float:
    """From the order to the end, or until a follower has everything."""
    engine = SpecConfig(type="wasm", params={"module": module})
    begun = time.perf_counter()
    await executor.start(ExecutionRequest("bench", id_, engine, Resources(ram=RAM(size=1 << 26)), scratch / id_))
    if is_followed:
        assert await _read(executor, id_, follow=True) == ALL_BYTES
    else:
        assert (await executor.wait(id_)).ok
    return time.perf_counter() - begun


async def _read(executor: WasmExecutor, id_: str, *, follow: bool) -> int:
    size = 0
    async for chunk in executor.logs(LogStreamRequest(id_, follow=follow)):
        size += len(chunk)
    return size


def _plain(path: Path, block: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for _ in range(BLOCKS):
        os.write(fd, block)
    os.close(fd)


def _log_file(directory: Path, block: bytes, blocks: int) -> None:
    directory.mkdir(exist_ok=True)
    log = LogFile(str(directory / "stdout.log"), LIMIT_BYTES)
    for _ in range(blocks):
        log.write(block)
    log.close()


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
