"""The processes in which WebAssembly programs run: whether they can here, and where Wasmtime lies.

Beside what :mod:`dms.executor.process` and ``wasm_runner`` tell, a run directory holds ``program.wasm``, ``stdin`` and
``files/``: what the program needs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from dms.executor.errors import ExecutorUnavailable
from dms.executor.process import RunDirectory, interpreter
from dms.executor.process import spawn as spawn_runner
from dms.executor.wasm_engine import CONFIGURATION

RUNNER = "wasm_runner"


def spawn(run: RunDirectory, inherited: Mapping[int, int]) -> int:
    """Start the process for a prepared run directory; returns its id. See :func:`dms.executor.process.spawn`.

    :raises OSError: the system refused.
    """
    return spawn_runner(run, RUNNER, inherited=inherited)


async def probe() -> None:
    """Find out whether programs can run here.

    :raises ExecutorUnavailable: with the reason.
    """
    if not hasattr(os, "pidfd_open") or not sys.platform.startswith("linux"):
        raise ExecutorUnavailable("WebAssembly programs need Linux with pidfd (5.3 or newer)")
    command = interpreter(RUNNER, "probe", library_path())
    done = await trio.run_process(command, env={}, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ExecutorUnavailable(f"Wasmtime does not work here: {reason[0][:300]}")


def compiled_name(code: bytes, *, with_fuel: bool) -> str:
    """What a program is called when it is compiled: the same only for the same program, compiled by the same library in
    the same way."""
    digest = hashlib.sha256(f"wasmtime {_version()} {_machine()} {CONFIGURATION} fuel={with_fuel}\0".encode())
    digest.update(code)
    return digest.hexdigest()


@functools.cache
def _version() -> str:
    return importlib.metadata.version("wasmtime")


@functools.cache
def library_path() -> str:
    """The shared library inside the ``wasmtime`` package, found without importing it.

    :raises ExecutorUnavailable: the package is missing or has none for this machine.
    """
    spec = importlib.util.find_spec("wasmtime")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        for library in sorted(Path(place).glob(f"linux-{_machine()}/_libwasmtime.so")):
            return str(library)
    raise ExecutorUnavailable("the wasmtime package has no library for this machine", hint="pip install wasmtime")


def _machine() -> str:
    machine = os.uname().machine
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine)
