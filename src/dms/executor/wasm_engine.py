"""Wasmtime as a program of ours finds it: the engine, the compiled program, the WASI that it sees.

Part of the process that runs the program: standard library only, and little of it.
"""

from __future__ import annotations

import ctypes

from dms.executor import wasm_cache
from dms.executor.wasm_abi import ByteVec, Library, WasmtimeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dms.executor.wasm_memory import GuestMemory

CONFIGURATION = "1"
"""Part of the names of compiled programs: count on when :func:`make_engine` configures anything else."""


class Job:
    """The file ``job`` as attributes; paths are absolute, sizes bytes, times seconds, ``None`` means no limit."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.library: str = raw["library"]
        self.is_component: bool = raw["is_component"]
        self.program: str = raw["program"]
        """The file with the program itself."""
        self.cache: str = raw["cache"]
        """The directory of compiled programs."""
        self.name: str = raw["name"]
        """What the compiled program is called there."""
        self.argv: list[str] = raw["argv"]
        self.environment: list[tuple[str, str]] = raw["environment"]
        self.stdin: str | None = raw["stdin"]
        self.preopens: list[tuple[str, str, bool]] = raw["preopens"]
        """(directory of the host, its name inside, writable)"""
        self.stdout: str = raw["stdout"]
        self.stderr: str = raw["stderr"]
        self.log_limit_bytes: int = raw["log_limit_bytes"]
        self.memory_bytes: int = raw["memory_bytes"]
        self.file_size_bytes: int | None = raw["file_size_bytes"]
        self.fuel: int | None = raw["fuel"]
        self.timeout_s: float | None = raw["timeout_s"]
        self.max_cpu_s: float | None = raw["max_cpu_s"]
        self.cgroups: tuple[str, ...] = raw["cgroups"]
        self.listeners: list[list[int]] = raw["listeners"]
        """For each listening socket of the program the descriptors, which this process inherits, of those of the machine."""
        self.server_names: list[str] = raw["server_names"]
        """What the modules beside a server are called in the cache; see :func:`dms.executor.wasm_server.modules`."""
        self.gate: int | None = raw["gate"]
        """Where it waits for the word to begin."""


def make_engine(library: Library, memory: GuestMemory, *, with_fuel: bool) -> int:
    """An engine whose memories are ours, that for garbage collection included; threads and 64-bit memories, which could
    evade the limit, are off."""
    config = library.c.wasm_config_new()
    library.c.wasmtime_config_consume_fuel_set(config, with_fuel)
    library.c.wasmtime_config_wasm_threads_set(config, False)
    library.c.wasmtime_config_wasm_memory64_set(config, False)
    library.c.wasmtime_config_memory_init_cow_set(config, False)
    library.c.wasmtime_config_host_memory_creator_set(config, ctypes.byref(memory.creator))
    return int(library.c.wasm_engine_new_with_config(config))


def load_program(library: Library, engine: int, job: Job) -> int:
    """The compiled module or component of a job.

    :raises WasmtimeError: it cannot be compiled.
    """

    def read() -> bytes:
        with open(job.program, "rb") as file:  # noqa: PTH123
            return file.read()

    return load(library, engine, job.cache, job.name, read, kind="component" if job.is_component else "module")


def load(
    library: Library, engine: int, cache: str, name: str, read: Callable[[], bytes], *, kind: str = "module"
) -> int:
    """Something compiled, from the cache where it is there and fits this library and processor; otherwise what is ``read``.

    :raises WasmtimeError: it cannot be compiled.
    """
    program = ctypes.c_void_p()
    code = wasm_cache.load(cache, name)
    if code is not None:
        try:
            deserialize = getattr(library.c, f"wasmtime_{kind}_deserialize")
            library.check(deserialize(engine, code, len(code), ctypes.byref(program)))
            return int(program.value or 0)
        except WasmtimeError:
            pass  # it was compiled for another processor: compile and replace
    code = read()
    library.check(getattr(library.c, f"wasmtime_{kind}_new")(engine, code, len(code), ctypes.byref(program)))
    compiled = ByteVec()
    library.check(getattr(library.c, f"wasmtime_{kind}_serialize")(program, ctypes.byref(compiled)))
    wasm_cache.store(cache, name, library.take(compiled))
    return int(program.value or 0)


def make_wasi(library: Library, job: Job) -> int:
    """The program's arguments, environment, directories and outputs; it has nothing else of this machine.

    :raises WasmtimeError: what it should have cannot be given.
    """
    wasi = library.c.wasi_config_new()

    def strings(values: list[str]) -> Any:
        return (ctypes.c_char_p * len(values))(*(value.encode() for value in values))

    if not library.c.wasi_config_set_argv(wasi, len(job.argv), strings(job.argv)):
        raise WasmtimeError("the arguments are not text")
    names, values = strings([name for name, _ in job.environment]), strings([value for _, value in job.environment])
    if not library.c.wasi_config_set_env(wasi, len(job.environment), names, values):
        raise WasmtimeError("the environment is not text")
    if job.stdin is not None and not library.c.wasi_config_set_stdin_file(wasi, job.stdin.encode()):
        raise WasmtimeError("the input text cannot be opened")
    library.c.wasi_config_inherit_stdout(wasi)
    library.c.wasi_config_inherit_stderr(wasi)
    for host, guest, writable in job.preopens:
        if not library.c.wasi_config_preopen_dir(wasi, host.encode(), guest.encode(), writable):
            raise WasmtimeError(f"the directory {host} cannot be opened")
    return int(wasi)
