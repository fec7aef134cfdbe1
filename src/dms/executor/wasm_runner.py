"""The process in which one WebAssembly program runs: started by :mod:`dms.executor.wasm`, survives its end.

It is started with a bare interpreter (``-I -S``) and uses the standard library only, and of that what loads fast,
because its start is part of the start of every execution: ``json``, ``typing``, ``threading`` and ``signal`` would
triple it. It takes one argument, a private directory with:

``job``
    What to do (marshalled by the executor, read once): see :class:`~dms.executor.wasm_engine.Job`.
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

import _thread
import ctypes
import marshal
import os
import resource
import sys
import time

from dms.executor.detached import LogFile, write_file, write_pid
from dms.executor.wasm_abi import EXTERN_FUNC, TRAP_OUT_OF_FUEL, Extern, Instance, Library, WasmtimeError
from dms.executor.wasm_engine import Job, load_program, make_engine, make_wasi
from dms.executor.wasm_memory import GuestMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal

NICENESS = 5
"""Below the daemon, so that a busy program does not delay the answers of its node."""
OOM_SCORE = 600
"""When the machine runs out of memory, the kernel takes a program before it takes the daemon."""
COMPILER_DATA_BYTES = 1 << 30
"""Writable memory beside the guest's own: what the compiler may use."""
MAX_OPEN_FILES = 512
MAX_SERVER_FILES = 300
"""More for a server: its connections and what it listens on."""
MAX_TABLES, MAX_INSTANCES, MAX_MEMORIES = 16, 16, 4
SERVER_TABLES, SERVER_INSTANCES = 1, 2
"""More for a server: ours."""
MAX_COMPONENT_TABLES, MAX_COMPONENT_INSTANCES, MAX_COMPONENT_MEMORIES = 64, 128, 32
"""A component is put together of many modules."""
MAX_TABLE_ELEMENTS, TABLE_ELEMENT_BYTES = 1 << 20, 16
"""All tables together hold no more than the memory of the program: each its part of it."""
MIN_TABLE_ELEMENTS = 1 << 14
HTTP = "wasi:http"
PIPE_CHUNK_BYTES = 1 << 16
PUMP_DRAIN_S = 2.0
MAX_ERROR_CHARS = 2000

START = b"_start"
EXIT_OUT_OF_MEMORY, EXIT_CPU_LIMIT, EXIT_TIMED_OUT, EXIT_TRAPPED, EXIT_TERMINATED = 137, 152, 124, 134, 143
"""What a shell would report: SIGKILL, SIGXCPU, ``timeout``, SIGABRT, SIGTERM."""
TRAP, OUT_OF_FUEL = "wasm trap:", "all fuel consumed"
"""What Wasmtime's messages say; of a component's trap it tells nothing else."""
TOO_MANY = ("exceeds table limits", "table count too high", "instance count too high", "memory count too high")
"""What it says when a program wants more tables, instances or memories than it may have."""


class Pump:
    """Carries one output of the program into its log."""

    def __init__(self, fd: int, path: str, limit_bytes: int) -> None:
        self._log = LogFile(path, limit_bytes)
        self._source, write_end = os.pipe()
        os.dup2(write_end, fd)
        os.close(write_end)
        self._drained = _thread.allocate_lock()
        self._drained.acquire()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            while chunk := os.read(self._source, PIPE_CHUNK_BYTES):
                self._log.write(chunk)
        finally:
            self._drained.release()

    def drain(self) -> None:
        """Wait until all is written; for a while."""
        self._drained.acquire(timeout=PUMP_DRAIN_S)

    def write(self, chunk: bytes) -> None:
        """Append a note of ours."""
        self._log.write(chunk)


class Ending:
    """Writes ``exit.json`` once and ends the process; whoever comes second waits for ever."""

    def __init__(self, directory: str, pumps: tuple[Pump, ...]) -> None:
        self._directory, self._pumps, self._lock = directory, pumps, _thread.allocate_lock()

    def finish(self, exit_code: int, reason: str, error_msg: str = "", *, note: str = "") -> NoReturn:
        """End with this result; ``note`` goes to the program's error log."""
        self._lock.acquire()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(null, fd)
        for pump in self._pumps:
            pump.drain()
        if note and self._pumps:
            self._pumps[-1].write(note.encode("utf-8", "replace"))
        told = _json_text(error_msg[:MAX_ERROR_CHARS])
        result = f'{{"exit_code": {exit_code}, "reason": "{reason}", "error_msg": {told}}}'
        write_file(f"{self._directory}/exit.json", result.encode("utf-8", "replace"))
        os._exit(0)


def main(directory: str) -> NoReturn:
    """Run the job in ``directory`` and end the process."""
    write_pid(directory, os.getpid())
    started = time.monotonic()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGTERM})
    with open(f"{directory}/job", "rb") as file:  # noqa: PTH123
        job = Job(marshal.load(file))  # noqa: S302  ours, in a private directory
    os.chdir("/")
    os.umask(0o077)
    close_others(job)
    try:
        pumps = (Pump(1, job.stdout, job.log_limit_bytes), Pump(2, job.stderr, job.log_limit_bytes))
    except OSError as exc:
        Ending(directory, ()).finish(-1, "infrastructure", f"cannot write logs: {exc}")
    ending = Ending(directory, pumps)
    _thread.start_new_thread(watch, (job, ending, started))
    try:
        restrict(job)
        run(job, ending)
    except BaseException as exc:  # noqa: BLE001  whatever it is, the executor must learn of it
        ending.finish(-1, "infrastructure", f"{type(exc).__name__}: {exc}")


def close_others(job: Job) -> None:
    """Every descriptor but the standard ones, and the sockets that we were given."""
    first = 3
    gate = [] if job.gate is None else [job.gate]
    for fd in sorted([fd for fds in job.listeners for fd in fds] + gate):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 1 << 16)


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
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES + (MAX_SERVER_FILES if job.listeners else 0),
        resource.RLIMIT_DATA: job.memory_bytes + COMPILER_DATA_BYTES,
    }
    for kind, value in limits.items():
        limit(kind, value)
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
        if _signal.sigtimedwait({_signal.SIGTERM}, max(min(waits), 0.01)) is not None:
            ending.finish(EXIT_TERMINATED, "signalled", "terminated by SIGTERM")


def limit(kind: int, value: int) -> None:
    """Lower one limit of the process, for good."""
    hard = resource.getrlimit(kind)[1]
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (allowed, allowed))


def join(cgroups: tuple[str, ...]) -> None:
    """Have no more of the processors than what was promised. Not earlier: what was compiled serves others, too."""
    for path in cgroups:
        try:
            with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(str(os.getpid()))
        except OSError:
            pass  # the system allows no groups: then it runs with what is free


def run(job: Job, ending: Ending) -> NoReturn:
    """Load, instantiate, call, and tell how it went."""
    library = Library(job.library)
    if job.is_component:
        library.with_components()
    memory = GuestMemory(library, job.memory_bytes)
    engine = make_engine(library, memory, with_fuel=job.fuel is not None)
    try:
        program = load_program(library, engine, job)
    except WasmtimeError as exc:
        ending.finish(-1, "infrastructure", f"the module cannot be compiled: {_one_line(str(exc))}")
    if job.gate is not None and not wait_at(job.gate):
        ending.finish(-1, "infrastructure", "its daemon ended while it was being started")
    join(job.cgroups)
    if job.file_size_bytes:
        limit(resource.RLIMIT_FSIZE, job.file_size_bytes)  # not earlier: what was compiled may be larger
    try:
        context = make_store(library, engine, job)
        if job.is_component:
            run_component(library, engine, context, program, memory, job, ending)
        trap = call_start(library, engine, context, program, job)
    except WasmtimeError as exc:
        if exc.exit_code is not None:
            finish_exited(exc.exit_code, memory, job, ending)
        finish_unstarted(exc, memory, job, ending)
    if not trap:
        ending.finish(0, "exited")
    code, message = library.trap(trap)
    finish_trapped(message, code == TRAP_OUT_OF_FUEL, memory, job, ending)


def wait_at(gate: int) -> bool:
    """Until the daemon has said that the program may begin; whether it has."""
    word = os.read(gate, 1)
    os.close(gate)
    return bool(word)


def make_store(library: Library, engine: int, job: Job) -> int:
    """The context of a store: of what holds all that the program makes, bounded.

    :raises WasmtimeError: it cannot be.
    """
    tables, instances, memories = MAX_TABLES, MAX_INSTANCES, MAX_MEMORIES
    if job.is_component:
        tables, instances, memories = MAX_COMPONENT_TABLES, MAX_COMPONENT_INSTANCES, MAX_COMPONENT_MEMORIES
    if job.listeners:
        tables, instances = tables + SERVER_TABLES, instances + SERVER_INSTANCES
    elements = min(MAX_TABLE_ELEMENTS, max(MIN_TABLE_ELEMENTS, job.memory_bytes // (TABLE_ELEMENT_BYTES * tables)))
    store = library.c.wasmtime_store_new(engine, None, None)
    library.c.wasmtime_store_limiter(store, -1, elements, instances, tables, memories)
    context = library.c.wasmtime_store_context(store)
    library.check(library.c.wasmtime_context_set_wasi(context, make_wasi(library, job)))
    if job.fuel is not None:
        library.check(library.c.wasmtime_context_set_fuel(context, job.fuel))
    return int(context)


def call_start(library: Library, engine: int, context: int, module: int, job: Job) -> int | None:
    """Run a module to its end; returns its trap, if it trapped.

    :raises WasmtimeError: it ended by ``proc_exit``, or could not be started.
    """
    linker, start, trap = library.c.wasmtime_linker_new(engine), Extern(), ctypes.c_void_p()
    library.check(library.c.wasmtime_linker_define_wasi(linker))
    server = None
    if job.listeners:
        from dms.executor.wasm_server import Server

        server = Server(library, engine, context, job)
        server.link(linker)
    instance = Instance()
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
    if server is not None:
        server.attach(instance)
    library.check(library.c.wasmtime_func_call(context, ctypes.byref(start.func), None, 0, None, 0, ctypes.byref(trap)))
    return trap.value


def run_component(
    library: Library, engine: int, context: int, component: int, memory: GuestMemory, job: Job, ending: Ending
) -> NoReturn:
    """Run a component to its end, and tell how it went.

    :raises WasmtimeError: it could not be started.
    """
    from dms.executor.wasm_component import call_run

    try:
        is_ok = call_run(library, engine, context, component, lambda code: finish_exited(code, memory, job, ending))
    except WasmtimeError as exc:
        if TRAP not in str(exc):
            raise
        finish_trapped(str(exc), OUT_OF_FUEL in str(exc), memory, job, ending)
    finish_exited(0 if is_ok else 1, memory, job, ending)


def finish_exited(exit_code: int, memory: GuestMemory, job: Job, ending: Ending) -> NoReturn:
    """It ended itself."""
    if exit_code == 0:
        ending.finish(0, "exited")
    if memory.refused_bytes:
        finish_out_of_memory(job, memory, ending, exit_code)
    ending.finish(exit_code, "exited", f"the program ended with exit code {exit_code}")


def finish_trapped(message: str, is_out_of_fuel: bool, memory: GuestMemory, job: Job, ending: Ending) -> NoReturn:  # noqa: FBT001
    """It was ended by a trap."""
    if memory.refused_bytes:
        finish_out_of_memory(job, memory, ending)
    if is_out_of_fuel:
        ending.finish(EXIT_CPU_LIMIT, "cpu_limit", f"it used up its {job.fuel} units of fuel")
    ending.finish(EXIT_TRAPPED, "trapped", _one_line(message), note=f"{message.rstrip()}\n")


def finish_unstarted(error: WasmtimeError, memory: GuestMemory, job: Job, ending: Ending) -> NoReturn:
    """It never ran."""
    if memory.refused_bytes:
        finish_out_of_memory(job, memory, ending)
    text = _one_line(str(error))
    if HTTP in str(error):
        text = f"it needs {HTTP}, which programs here do not have"
    if any(told in str(error) for told in TOO_MANY):
        ending.finish(EXIT_OUT_OF_MEMORY, "out_of_memory", f"it needs more than it may have: {text}")
    ending.finish(-1, "infrastructure", f"the module cannot be started: {text}")


def finish_out_of_memory(job: Job, memory: GuestMemory, ending: Ending, exit_code: int | None = None) -> NoReturn:
    """A growth was refused and the program failed after it."""
    ending.finish(
        EXIT_OUT_OF_MEMORY if exit_code is None else exit_code,
        "out_of_memory",
        f"it asked for {memory.refused_bytes} bytes of memory; the limit is {job.memory_bytes}",
    )


def probe(library_path: str) -> None:
    """Find out whether programs can run here at all.

    :raises OSError: the library cannot be loaded.
    :raises AttributeError: it lacks a function.
    """
    library = Library(library_path)
    library.with_components()
    engine = make_engine(library, GuestMemory(library, 1 << 20), with_fuel=False)
    module = ctypes.c_void_p()
    empty = b"\0asm\x01\0\0\0"
    library.check(library.c.wasmtime_module_new(engine, empty, len(empty), ctypes.byref(module)))


def _json_text(text: str) -> str:
    quoted = "".join(f"\\u{ord(char):04x}" if char < " " or char in '"\\' else char for char in text)
    return f'"{quoted}"'


def _one_line(message: str) -> str:
    """The line that says what happened: of a trap's text the last, after its backtrace."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    for line in reversed(lines):
        if TRAP in line:
            return line[line.index(TRAP) :]
    return ": ".join(lines[:1] + lines[-1:]) if len(lines) > 1 else "".join(lines)


if __name__ == "__main__":
    if sys.argv[1] == "--probe":
        probe(sys.argv[2])
    else:
        main(sys.argv[1])
