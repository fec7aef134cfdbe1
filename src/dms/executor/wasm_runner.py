"""The process in which one WebAssembly program runs: started by :mod:`dms.executor.wasm`, survives its end.

It is started with a bare interpreter (``-I -S``) and uses the standard library only, because its start is part of the
start of every execution. It takes one argument, a private directory with:

``job.json``
    What to do (written by the executor, read once): see :class:`Job`.
``pid``
    Process id and start time in clock ticks since boot, written first of all.
``exit.json``
    ``{"exit_code", "reason", "error_msg"}``, written last, through a temporary file and ``rename``. When the process
    is gone and this file does not exist, somebody killed it.

Three kinds of threads: the main thread is inside Wasmtime; two pumps carry the program's output from pipes into the
log files, of bounded size; the watchdog sleeps until a deadline or ``SIGTERM`` and then ends the process, whatever
the program is doing. Limits are enforced here and not in the daemon, so that they hold while the daemon is down.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from dms.executor.detached import LogFile, write_file, write_pid
from dms.executor.wasm_abi import (
    EXTERN_FUNC,
    TRAP_OUT_OF_FUEL,
    ByteVec,
    Extern,
    Finalizer,
    GetMemory,
    GrowMemory,
    Instance,
    Library,
    LinearMemory,
    MemoryCreator,
    NewMemory,
    WasmtimeError,
)

NICENESS = 5
"""Below the daemon, so that a busy program does not delay the answers of its node."""
OOM_SCORE = 600
"""When the machine runs out of memory, the kernel takes a program before it takes the daemon."""
COMPILER_DATA_BYTES = 1 << 30
"""Writable memory beside the guest's own: what the compiler may use."""
MAX_OPEN_FILES = 512
MAX_TABLE_ELEMENTS = 1 << 20
MAX_INSTANCES = 16
MAX_MEMORIES = 4
PIPE_CHUNK_BYTES = 1 << 16
PUMP_DRAIN_S = 2.0
MAX_ERROR_CHARS = 2000

START = b"_start"
EXIT_OUT_OF_MEMORY, EXIT_CPU_LIMIT, EXIT_TIMED_OUT, EXIT_TRAPPED, EXIT_TERMINATED = 137, 152, 124, 134, 143
"""What a shell would report: SIGKILL, SIGXCPU, ``timeout``, SIGABRT, SIGTERM."""

_PROT_READ_WRITE, _MAP_PRIVATE_ANON_NORESERVE = 0x1 | 0x2, 0x02 | 0x20 | 0x4000


class Job:
    """``job.json`` as attributes; paths are absolute, sizes bytes, times seconds, ``None`` means no limit."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.library: str = raw["library"]
        self.module: str = raw["module"]
        self.compiled: str = raw["compiled"]
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


class Pump:
    """Carries one output of the program into its log."""

    def __init__(self, fd: int, path: str, limit_bytes: int) -> None:
        self._log = LogFile(path, limit_bytes)
        self._source, write_end = os.pipe()
        os.dup2(write_end, fd)
        os.close(write_end)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            chunk = os.read(self._source, PIPE_CHUNK_BYTES)
            if not chunk:
                return
            self._log.write(chunk)

    def write(self, chunk: bytes) -> None:
        """Append a note of ours."""
        self._log.write(chunk)


class Ending:
    """Writes ``exit.json`` once and ends the process; whoever comes second waits for ever."""

    def __init__(self, directory: str, pumps: tuple[Pump, ...]) -> None:
        self._directory, self._pumps, self._lock = directory, pumps, threading.Lock()

    def finish(self, exit_code: int, reason: str, error_msg: str = "", *, note: str = "") -> NoReturn:
        """End with this result; ``note`` goes to the program's error log."""
        self._lock.acquire()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(null, fd)
        for pump in self._pumps:
            pump.thread.join(PUMP_DRAIN_S)
        if note and self._pumps:
            self._pumps[-1].write(note.encode("utf-8", "replace"))
        result = {"exit_code": exit_code, "reason": reason, "error_msg": error_msg[:MAX_ERROR_CHARS]}
        write_file(os.path.join(self._directory, "exit.json"), json.dumps(result).encode())  # noqa: PTH118 (no pathlib: start time)
        os._exit(0)


class GuestMemory:
    """The linear memories of the program, together at most ``limit_bytes``.

    Wasmtime could limit them itself but would not tell whether it refused anything: then a program that ran out of
    memory and aborted could not be told from one with a defect.

    Address space for a whole memory is reserved without access and opened as it grows: the code that Wasmtime
    compiles relies on the unopened rest to catch accesses out of bounds.
    """

    def __init__(self, library: Library, limit_bytes: int) -> None:
        self._library, self._limit_bytes, self._used_bytes = library, limit_bytes, 0
        self.refused_bytes = 0
        """The total that a growth would have needed when it was refused; 0 when none was."""
        self._libc = ctypes.CDLL(None)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
        self._libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._kept: list[object] = []  # ctypes does not keep callbacks alive
        self._nothing = Finalizer(lambda _env: None)
        self.creator = MemoryCreator(None, NewMemory(self._new), self._nothing)

    def _error(self, text: bytes) -> int:
        return int(self._library.c.wasmtime_error_new(text))

    def _open(self, base: int, old_bytes: int, new_bytes: int) -> int:
        total = self._used_bytes - old_bytes + new_bytes
        if total > self._limit_bytes:
            self.refused_bytes = total
            return self._error(b"memory limit exceeded")
        if new_bytes and self._libc.mprotect(base, new_bytes, _PROT_READ_WRITE):
            self.refused_bytes = total
            return self._error(b"the system refused memory")
        self._used_bytes = total
        return 0

    def _new(self, _env: Any, _type: Any, minimum: int, _maximum: int, reserved: int, guard: int, out: Any) -> int:
        try:
            capacity = max(minimum, reserved)
            base = self._libc.mmap(None, capacity + guard, 0, _MAP_PRIVATE_ANON_NORESERVE, -1, 0)
            if base in (None, ctypes.c_void_p(-1).value):
                return self._error(b"the system refused address space")
            if error := self._open(base, 0, minimum):
                return error
            size = minimum

            def get(_env: Any, size_out: Any, capacity_out: Any) -> int:
                size_out[0], capacity_out[0] = size, capacity
                return int(base)

            def grow(_env: Any, new_size: int) -> int:
                nonlocal size
                if new_size > capacity:
                    return self._error(b"beyond the reserved address space")
                if error := self._open(base, size, new_size):
                    return error
                size = new_size
                return 0

            memory = LinearMemory(None, GetMemory(get), GrowMemory(grow), self._nothing)
            self._kept.append(memory)
            ctypes.memmove(out, ctypes.byref(memory), ctypes.sizeof(memory))
        except BaseException:  # noqa: BLE001  ctypes would print it and go on with garbage
            os.abort()
        return 0


def main(directory: str) -> NoReturn:
    """Run the job in ``directory`` and end the process."""
    write_pid(directory, os.getpid())
    started = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with open(os.path.join(directory, "job.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
        job = Job(json.load(file))
    os.chdir("/")
    os.umask(0o077)
    os.closerange(3, 1 << 16)
    try:
        pumps = (Pump(1, job.stdout, job.log_limit_bytes), Pump(2, job.stderr, job.log_limit_bytes))
    except OSError as exc:
        Ending(directory, ()).finish(-1, "infrastructure", f"cannot write logs: {exc}")
    ending = Ending(directory, pumps)
    threading.Thread(target=watch, args=(job, ending, started), daemon=True).start()
    try:
        restrict(job)
        run(job, ending)
    except BaseException as exc:  # noqa: BLE001  whatever it is, the executor must learn of it
        ending.finish(-1, "infrastructure", f"{type(exc).__name__}: {exc}")


def restrict(job: Job) -> None:
    """Give up what a program does not need."""
    os.nice(NICENESS)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(str(OOM_SCORE))
    except OSError:
        pass  # no /proc, or a stricter system
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_DATA: job.memory_bytes + COMPILER_DATA_BYTES,
    }
    if job.file_size_bytes:
        limits[resource.RLIMIT_FSIZE] = job.file_size_bytes
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))
    pr_set_no_new_privs = 38
    ctypes.CDLL(None).prctl(pr_set_no_new_privs, 1, 0, 0, 0)


def watch(job: Job, ending: Ending, started: float) -> None:
    """Sleep until a limit of time is reached or ``SIGTERM`` comes; then end the process."""
    while True:
        waits = [3600.0]
        if job.timeout_s is not None:
            waits.append(started + job.timeout_s - time.monotonic())
        if job.max_cpu_s is not None:
            waits.append(job.max_cpu_s - time.process_time())
        if job.timeout_s is not None and started + job.timeout_s <= time.monotonic():
            ending.finish(EXIT_TIMED_OUT, "timed_out", f"it ran longer than {job.timeout_s:g} s")
        if job.max_cpu_s is not None and time.process_time() >= job.max_cpu_s:
            ending.finish(EXIT_CPU_LIMIT, "cpu_limit", f"it used more than {job.max_cpu_s:g} s of processor time")
        if signal.sigtimedwait({signal.SIGTERM}, max(min(waits), 0.01)) is not None:
            ending.finish(EXIT_TERMINATED, "signalled", "terminated by SIGTERM")


def run(job: Job, ending: Ending) -> NoReturn:
    """Load, instantiate, call ``_start``, and tell how it went."""
    library = Library(job.library)
    memory = GuestMemory(library, job.memory_bytes)
    engine = make_engine(library, memory, with_fuel=job.fuel is not None)
    try:
        module = load_module(library, engine, job)
    except WasmtimeError as exc:
        ending.finish(-1, "infrastructure", f"the module cannot be compiled: {_one_line(str(exc))}")
    try:
        trap = call_start(library, engine, module, job)
    except WasmtimeError as exc:
        if exc.exit_code == 0:
            ending.finish(0, "exited")
        if memory.refused_bytes:
            finish_out_of_memory(job, memory, ending, exc.exit_code)
        if exc.exit_code is not None:
            ending.finish(exc.exit_code, "exited", f"the program ended with exit code {exc.exit_code}")
        ending.finish(-1, "infrastructure", f"the module cannot be started: {_one_line(str(exc))}")
    if not trap:
        ending.finish(0, "exited")
    code, message = library.trap(trap)
    if memory.refused_bytes:
        finish_out_of_memory(job, memory, ending)
    if code == TRAP_OUT_OF_FUEL:
        ending.finish(EXIT_CPU_LIMIT, "cpu_limit", f"it used up its {job.fuel} units of fuel")
    ending.finish(EXIT_TRAPPED, "trapped", _one_line(message), note=f"{message.rstrip()}\n")


def call_start(library: Library, engine: int, module: int, job: Job) -> int | None:
    """Run the program to its end; returns its trap, if it trapped.

    :raises WasmtimeError: it ended by ``proc_exit``, or could not be started.
    """
    store = library.c.wasmtime_store_new(engine, None, None)
    library.c.wasmtime_store_limiter(store, -1, MAX_TABLE_ELEMENTS, MAX_INSTANCES, -1, MAX_MEMORIES)
    context = library.c.wasmtime_store_context(store)
    linker, instance, start, trap = library.c.wasmtime_linker_new(engine), Instance(), Extern(), ctypes.c_void_p()
    library.check(library.c.wasmtime_context_set_wasi(context, make_wasi(library, job)))
    if job.fuel is not None:
        library.check(library.c.wasmtime_context_set_fuel(context, job.fuel))
    library.check(library.c.wasmtime_linker_define_wasi(linker))
    library.check(
        library.c.wasmtime_linker_instantiate(linker, context, module, ctypes.byref(instance), ctypes.byref(trap))
    )
    if trap.value:
        return trap.value
    found = library.c.wasmtime_instance_export_get(
        context, ctypes.byref(instance), START, len(START), ctypes.byref(start)
    )
    if not found or start.kind != EXTERN_FUNC:
        raise WasmtimeError("it exports no function _start: it is a library, not a program")
    library.check(library.c.wasmtime_func_call(context, ctypes.byref(start.func), None, 0, None, 0, ctypes.byref(trap)))
    return trap.value


def finish_out_of_memory(job: Job, memory: GuestMemory, ending: Ending, exit_code: int | None = None) -> NoReturn:
    """A growth was refused and the program failed after it."""
    ending.finish(
        EXIT_OUT_OF_MEMORY if exit_code is None else exit_code,
        "out_of_memory",
        f"it asked for {memory.refused_bytes} bytes of memory; the limit is {job.memory_bytes}",
    )


def make_engine(library: Library, memory: GuestMemory, *, with_fuel: bool) -> int:
    """An engine whose memories are ours; threads and 64-bit memories, which could evade the limit, are off."""
    config = library.c.wasm_config_new()
    library.c.wasmtime_config_consume_fuel_set(config, with_fuel)
    library.c.wasmtime_config_wasm_threads_set(config, False)
    library.c.wasmtime_config_wasm_memory64_set(config, False)
    library.c.wasmtime_config_memory_init_cow_set(config, False)
    library.c.wasmtime_config_host_memory_creator_set(config, ctypes.byref(memory.creator))
    return int(library.c.wasm_engine_new_with_config(config))


def load_module(library: Library, engine: int, job: Job) -> int:
    """The compiled module, from the cache where it is there and fits this version of the library."""
    module = ctypes.c_void_p()
    if os.path.exists(job.compiled):  # noqa: PTH110
        try:
            library.check(
                library.c.wasmtime_module_deserialize_file(engine, job.compiled.encode(), ctypes.byref(module))
            )
            return int(module.value or 0)
        except WasmtimeError:
            pass  # another version wrote it: compile and replace
    with open(job.module, "rb") as file:  # noqa: PTH123
        code = file.read()
    library.check(library.c.wasmtime_module_new(engine, code, len(code), ctypes.byref(module)))
    compiled = ByteVec()
    library.check(library.c.wasmtime_module_serialize(module, ctypes.byref(compiled)))
    try:  # noqa: SIM105  contextlib would cost 5 ms of every start
        write_file(job.compiled, library.take(compiled))
    except OSError:
        pass  # without a cache the next start is slower, nothing else
    return int(module.value or 0)


def make_wasi(library: Library, job: Job) -> int:
    """The program's arguments, environment, directories and outputs; it has nothing else of this machine."""
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


def probe(library_path: str) -> None:
    """Find out whether programs can run here at all.

    :raises OSError: the library cannot be loaded.
    :raises AttributeError: it lacks a function.
    """
    library = Library(library_path)
    engine = make_engine(library, GuestMemory(library, 1 << 20), with_fuel=False)
    module = ctypes.c_void_p()
    empty = b"\0asm\x01\0\0\0"
    library.check(library.c.wasmtime_module_new(engine, empty, len(empty), ctypes.byref(module)))


def _one_line(message: str) -> str:
    """The line that says what happened: of a trap's text the last, after its backtrace."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    for line in reversed(lines):
        if "wasm trap:" in line:
            return line[line.index("wasm trap:") :]
    return ": ".join(lines[:1] + lines[-1:]) if len(lines) > 1 else "".join(lines)


if __name__ == "__main__":
    if sys.argv[1] == "--probe":
        probe(sys.argv[2])
    else:
        main(sys.argv[1])
