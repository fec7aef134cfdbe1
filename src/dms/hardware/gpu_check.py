"""Does a graphics processor work: its driver, its device nodes, the vendor's tools, its memory (``nunet gpu test``)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import msgspec
import trio

from dms.hardware.gpu import AMD, INTEL, NVIDIA, GPUInfo
from dms.hardware.gpu_memory import DeviceFailed, NoLibrary, write_and_read

TOOL_DEADLINE_S = 20.0
MEMORY_DEADLINE_S = 30.0
"""The first use of a device may have its driver load and compile."""

MAX_DETAIL_CHARS = 200

TOOLS: dict[str, tuple[tuple[str, ...], ...]] = {
    NVIDIA: (("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"), ("clinfo", "-l")),
    AMD: (("rocm-smi", "--showid"), ("clinfo", "-l")),
    INTEL: (("xpu-smi", "discovery"), ("clinfo", "-l")),
}
"""Commands that must succeed where they are installed."""

CONTAINER_TOOLS = ("nvidia-ctk", "nvidia-container-runtime", "nvidia-container-toolkit")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried."""

    name: str
    passed: bool | None
    """``None``: it could not be tried, which is no failure."""
    detail: str = ""


class GPUCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried with one device."""

    gpu: GPUInfo
    passed: bool
    """Nothing failed, and the device was used: its memory was written, or a tool of its vendor saw it."""
    steps: tuple[Step, ...]


async def check_gpu(
    gpu: GPUInfo,
    *,
    search_path: str | None = None,
    write: Callable[[GPUInfo], str] = write_and_read,
) -> GPUCheck:
    """Try everything that there is for this vendor; ``search_path``: where tools are looked for, else ``PATH``."""
    steps = [_driver(gpu), _nodes(gpu)]
    steps.extend([await _tool(command, gpu, search_path) for command in TOOLS.get(gpu.vendor, ())])
    if gpu.vendor == NVIDIA:
        steps.append(_containers(search_path))
    memory = await _memory(partial(write, gpu))
    steps.append(memory)
    was_used = memory.passed is True or any(s.passed is True and s.name.startswith("tool") for s in steps)
    return GPUCheck(gpu=gpu, passed=was_used and all(s.passed is not False for s in steps), steps=tuple(steps))


def _driver(gpu: GPUInfo) -> Step:
    has_memory = gpu.vram_bytes > 0
    detail = gpu.driver if has_memory else f"{gpu.driver} tells of no memory"
    return Step(name="driver", passed=bool(gpu.driver) and has_memory, detail=detail)


def _nodes(gpu: GPUInfo) -> Step:
    if not gpu.devices:
        return Step(name="device nodes", passed=None, detail="none are known")
    wrong = [node for node in gpu.devices if not os.access(node, os.R_OK | os.W_OK)]
    missing = [node for node in wrong if not Path(node).exists()]
    if missing:
        return Step(name="device nodes", passed=False, detail=f"missing: {', '.join(missing)}")
    if wrong:
        hint = "join the groups video and render" if gpu.vendor != NVIDIA else "see their owner and mode"
        return Step(name="device nodes", passed=False, detail=f"not readable and writable: {', '.join(wrong)}; {hint}")
    return Step(name="device nodes", passed=True, detail=", ".join(gpu.devices))


async def _tool(command: tuple[str, ...], gpu: GPUInfo, search_path: str | None) -> Step:
    name = f"tool {command[0]}"
    program = shutil.which(command[0], path=search_path)
    if program is None:
        return Step(name=name, passed=None, detail="not installed")
    with trio.move_on_after(TOOL_DEADLINE_S):
        try:
            done = await trio.run_process(
                [program, *command[1:]], capture_stdout=True, capture_stderr=True, check=False, stdin=subprocess.DEVNULL
            )
        except OSError as exc:
            return Step(name=name, passed=False, detail=str(exc))
        said = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace") or said
            return Step(name=name, passed=False, detail=f"exit code {done.returncode}: {_short(said)}")
        if command[0] == "nvidia-smi" and not gpu.uuid.startswith("MIG-") and gpu.uuid not in said:
            return Step(name=name, passed=False, detail=f"it does not list {gpu.uuid}")
        return Step(name=name, passed=True, detail=_short(said))
    return Step(name=name, passed=False, detail=f"no answer in {TOOL_DEADLINE_S:g} s")


def _containers(search_path: str | None) -> Step:
    found = next((name for name in CONTAINER_TOOLS if shutil.which(name, path=search_path)), None)
    detail = found or "NVIDIA's container toolkit is not installed: containers get no GPU"
    return Step(name="containers", passed=True if found else None, detail=detail)


async def _memory(write: Callable[[], str]) -> Step:
    run: Awaitable[str] = trio.to_thread.run_sync(write, abandon_on_cancel=True)
    with trio.move_on_after(MEMORY_DEADLINE_S):
        try:
            return Step(name="memory", passed=True, detail=await run)
        except NoLibrary as exc:
            return Step(name="memory", passed=None, detail=str(exc))
        except DeviceFailed as exc:
            return Step(name="memory", passed=False, detail=str(exc))
    return Step(name="memory", passed=False, detail=f"no answer in {MEMORY_DEADLINE_S:g} s")


def _short(text: str) -> str:
    return " ".join(text.split())[:MAX_DETAIL_CHARS]
