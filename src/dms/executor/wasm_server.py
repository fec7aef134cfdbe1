"""A core module that is a server: its calls about sockets come to us, all others stay with Wasmtime.

Wasmtime's C interface gives no sockets to modules of preview 1, and its own functions look for the memory of whoever calls
them, so nobody can call them in a module's stead but another module. Hence two small modules of ours:

- the *switchboard*, made first: functions that call what stands in a table, which is empty as yet. The program is linked to
  these, and to Wasmtime's where sockets are of no concern.
- the *sorter*, made when the program has its memory, which it shares: it looks at the descriptor and calls Wasmtime's
  function, or ours. It fills the table.

So what is no socket costs the program a few instructions more. Standard library only, and little of it.
"""

from __future__ import annotations

import ctypes
import time

from dms.executor.wasm_abi import (
    EXTERN_MEMORY,
    VALUE_I32,
    VALUE_I64,
    ByteVec,
    Extern,
    Finalizer,
    Instance,
    RawFunc,
    WasmtimeError,
)
from dms.executor.wasm_engine import load
from dms.executor.wasm_sockets import FIRST_CONNECTION, FIRST_LISTENER, NOT_OURS, Listener, Memory, Sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dms.executor.wasm_abi import Library
    from dms.executor.wasm_engine import Job

WASI, OURS = b"wasi_snapshot_preview1", b"sockets"

_FUNCTIONS = {
    "fd_close": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_filestat_get": "ii",
    "fd_prestat_get": "ii",
    "fd_prestat_dir_name": "iii",
    "fd_read": "iiii",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "poll_oneoff": "iiii",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
"""Those of WASI that may be about sockets, with their parameters: numbers of 32 bits (``i``) and of 64 (``I``)."""
_TYPES = {"i": "i32", "I": "i64"}


class Server:
    """What has to be there as long as the program runs."""

    def __init__(self, library: Library, engine: int, context: int, job: Job) -> None:
        """For a program with ``listeners``.

        :raises AttributeError: the library lacks a function.
        :raises OSError: a descriptor is no socket.
        """
        library.with_servers()
        self._library, self._engine, self._context, self._job = library, engine, context, job
        self._texts = modules(len(job.listeners))
        self._memory = Extern()
        self._sockets = Sockets(
            Memory(self._where), [Listener(fds) for fds in job.listeners], origin_ns=time.monotonic_ns()
        )
        self._switchboard = _make(library, library.c.wasmtime_linker_new(engine), context, self._compiled(0))
        self._kept: list[object] = []

    def link(self, linker: int) -> None:
        """Before the program is made: let it import our functions, in place of Wasmtime's.

        :raises WasmtimeError: that cannot be.
        """
        self._library.c.wasmtime_linker_allow_shadowing(linker, True)
        for name in _FUNCTIONS:
            self._pass(linker, self._switchboard, name.encode(), WASI)

    def attach(self, instance: Instance) -> None:
        """When it is made, before it runs: have our functions work.

        :raises WasmtimeError: that cannot be, as when the program does not show its memory.
        """
        found = self._export(instance, b"memory")
        if found is None or found.kind != EXTERN_MEMORY:
            raise WasmtimeError("it exports no memory: nothing can be told to it")
        self._memory = found
        library = self._library
        linker = library.c.wasmtime_linker_new(self._engine)
        library.check(library.c.wasmtime_linker_define_wasi(linker))
        for name in _FUNCTIONS:
            self._define(linker, name)
        self._pass(linker, self._switchboard, b"table", b"switchboard")
        self._pass(linker, instance, b"memory", b"guest")
        _make(library, linker, self._context, self._compiled(1))

    def _where(self) -> tuple[int, int]:
        c, place = self._library.c, ctypes.byref(self._memory, Extern.func.offset)
        return c.wasmtime_memory_data(self._context, place) or 0, c.wasmtime_memory_data_size(self._context, place)

    def _compiled(self, index: int) -> int:
        def read() -> bytes:
            code, raw = ByteVec(), self._texts[index].encode()
            self._library.check(self._library.c.wasmtime_wat2wasm(raw, len(raw), ctypes.byref(code)))
            return self._library.take(code)

        return load(self._library, self._engine, self._job.cache, self._job.server_names[index], read)

    def _export(self, instance: Instance, name: bytes) -> Extern | None:
        found = Extern()
        get = self._library.c.wasmtime_instance_export_get
        return found if get(self._context, ctypes.byref(instance), name, len(name), ctypes.byref(found)) else None

    def _pass(self, linker: int, instance: Instance, name: bytes, module: bytes) -> None:
        """Let what an instance exports be imported from ``module``."""
        found, define = self._export(instance, name), self._library.c.wasmtime_linker_define
        assert found is not None
        self._library.check(define(linker, self._context, module, len(module), name, len(name), ctypes.byref(found)))

    def _define(self, linker: int, name: str) -> None:
        """One function of ours, for the sorter."""
        c, sockets = self._library.c, self._sockets
        masks = [0xFFFFFFFF if one == "i" else 0xFFFFFFFFFFFFFFFF for one in _FUNCTIONS[name]]

        def call(_data: object, _caller: object, values: Any, _count: int) -> int:
            try:
                told = sockets.call(name, [values[at].of & mask for at, mask in enumerate(masks)])
                values[0].of = told & 0xFFFFFFFF
            except BaseException as exc:  # noqa: BLE001  ctypes would print it and go on with garbage
                text = f"{name} failed: {type(exc).__name__}: {exc}".encode()
                return int(c.wasmtime_trap_new(text, len(text)))
            return 0

        own, callback, nothing = name.encode(), RawFunc(call), Finalizer(lambda _data: None)
        self._kept += (callback, nothing)
        results = self._kinds([VALUE_I32])
        type_ = c.wasm_functype_new(
            self._kinds([VALUE_I32 if one == "i" else VALUE_I64 for one in _FUNCTIONS[name]]), results
        )
        define = c.wasmtime_linker_define_func_unchecked
        self._library.check(define(linker, OURS, len(OURS), own, len(own), type_, callback, None, nothing))

    def _kinds(self, values: list[int]) -> Any:
        vector = ByteVec()
        types = (ctypes.c_void_p * len(values))(*(self._library.c.wasm_valtype_new(one) for one in values))
        self._library.c.wasm_valtype_vec_new(ctypes.byref(vector), len(values), types)
        return ctypes.byref(vector)


def modules(listeners: int) -> tuple[str, str]:
    """The text of the switchboard and the sorter, for so many listening sockets."""
    return _SWITCHBOARD, _sorter(listeners)


def _make(library: Library, linker: int, context: int, module: int) -> Instance:
    """An instance of a module of ours, which does not trap."""
    instance, trap, make = Instance(), ctypes.c_void_p(), library.c.wasmtime_linker_instantiate
    library.check(make(linker, context, module, ctypes.byref(instance), ctypes.byref(trap)))
    return instance


def _parameters(name: str) -> str:
    return f"(param {' '.join(_TYPES[one] for one in _FUNCTIONS[name])}) (result i32)"


def _arguments(name: str) -> str:
    return " ".join(f"(local.get {at})" for at in range(len(_FUNCTIONS[name])))


_CALLS = "".join(
    f'(func (export "{name}") {_parameters(name)}'
    f" (call_indirect {_parameters(name)} {_arguments(name)} (i32.const {at})))\n"
    for at, name in enumerate(_FUNCTIONS)
)
_SWITCHBOARD = f'(module (table (export "table") {len(_FUNCTIONS)} funcref)\n{_CALLS})'


def _sorter(listeners: int) -> str:
    imports, functions = "", ""
    for name in _FUNCTIONS:
        imports += f'(import "{WASI.decode()}" "{name}" (func $wasi_{name} {_parameters(name)}))\n'
        imports += f'(import "sockets" "{name}" (func $sockets_{name} {_parameters(name)}))\n'
        functions += f"(func ${name} {_parameters(name)} {_sorted(name)})\n"
    table = " ".join(f"${name}" for name in _FUNCTIONS)
    return f"""(module
        {imports}
        (import "guest" "memory" (memory 0))
        (import "switchboard" "table" (table {len(_FUNCTIONS)} funcref))
        (export "memory" (memory 0))
        (func $is_ours (param i32) (result i32) (i32.or
            (i32.lt_u (i32.sub (local.get 0) (i32.const {FIRST_LISTENER})) (i32.const {listeners}))
            (i32.ge_u (local.get 0) (i32.const {FIRST_CONNECTION}))))
        {functions}
        (elem (table 0) (i32.const 0) func {table}))"""


def _sorted(name: str) -> str:
    ours, theirs = (f"(call ${whose}_{name} {_arguments(name)})" for whose in ("sockets", "wasi"))
    if name == "poll_oneoff":  # which descriptors it is about stands in the memory
        return f"""(local $told i32) (local.set $told {ours})
            (if (result i32) (i32.eq (local.get $told) (i32.const {NOT_OURS})) (then {theirs}) (else (local.get $told)))"""
    condition = "(call $is_ours (local.get 0))"
    if name == "fd_renumber":
        condition = f"(i32.or {condition} (call $is_ours (local.get 1)))"
    return f"(if (result i32) {condition} (then {ours}) (else {theirs}))"
