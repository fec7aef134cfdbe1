"""The few functions of Wasmtime's C interface that :mod:`dms.executor.wasm_runner` needs.

The ``wasmtime`` package declares some 1500 functions when it is imported, which takes 0.1 s and 15 MB in every
process that runs a program. This module declares a few dozen of them. It uses the standard library only, and little of
it: this is part of the start of every program (``typing`` alone would double the time).

The trap: a declaration that disagrees with the library crashes the process. ``tests/unit/executor/test_wasm_abi.py``
compares every declaration with those of the installed package, so a new version that differs fails there first.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

P = c_void_p


class ByteVec(Structure):
    """``wasm_byte_vec_t``: bytes owned by the library."""

    _fields_ = (("size", c_size_t), ("data", c_void_p))


class Func(Structure):
    """``wasmtime_func_t``: a handle, valid while its store lives."""

    _fields_ = (("store_id", c_uint64), ("private", c_void_p))


class Instance(Structure):
    """``wasmtime_instance_t``: a handle, valid while its store lives."""

    _fields_ = (("store_id", c_uint64), ("private", c_size_t))


class Extern(Structure):
    """``wasmtime_extern_t``, of which only functions concern us; with room for the other kinds."""

    _fields_ = (("kind", c_uint8), ("func", Func), ("room", c_uint8 * 64))


class RawValue(Structure):
    """``wasmtime_val_raw_t``, of which only numbers concern us; with room for the other kinds."""

    _fields_ = (("of", c_uint64), ("room", c_uint64))


class ComponentInstance(Structure):
    """``wasmtime_component_instance_t``."""

    _fields_ = (("store_id", c_uint64), ("private", c_uint32))


class ComponentFunc(Structure):
    """``wasmtime_component_func_t``."""

    _fields_ = (("inner", ComponentInstance), ("private2", c_uint32), ("private3", c_void_p))


class ComponentValue(Structure):
    """``wasmtime_component_val_t``, of which only small numbers and whether a result is an error concern us; with room
    for the other kinds."""

    _fields_ = (("kind", c_uint8), ("of", c_uint64), ("room", c_uint64 * 2))

    @property
    def byte(self) -> int:
        """As ``bool`` or ``u8``; of a result: 1 if it is no error."""
        return int(self.of) & 0xFF


GetMemory = ctypes.CFUNCTYPE(c_size_t, c_void_p, POINTER(c_size_t), POINTER(c_size_t))
GrowMemory = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_size_t)
Finalizer = ctypes.CFUNCTYPE(None, c_void_p)


class LinearMemory(Structure):
    """``wasmtime_linear_memory_t``: how the library reaches one memory that we hold."""

    _fields_ = (("env", c_void_p), ("get_memory", GetMemory), ("grow_memory", GrowMemory), ("finalizer", Finalizer))


HostFunc = ctypes.CFUNCTYPE(
    c_size_t, c_void_p, c_void_p, c_void_p, POINTER(ComponentValue), c_size_t, POINTER(ComponentValue), c_size_t
)
RawFunc = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, POINTER(RawValue), c_size_t)
NewMemory = ctypes.CFUNCTYPE(
    c_size_t, c_void_p, c_void_p, c_size_t, c_size_t, c_size_t, c_size_t, POINTER(LinearMemory)
)


class MemoryCreator(Structure):
    """``wasmtime_memory_creator_t``: whom the library asks for memories."""

    _fields_ = (("env", c_void_p), ("new_memory", NewMemory), ("finalizer", Finalizer))


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wasm_byte_vec_delete": (None, (P,)),
    "wasm_config_new": (P, ()),
    "wasm_engine_new_with_config": (P, (P,)),
    "wasm_trap_message": (None, (P, P)),
    "wasi_config_new": (P, ()),
    "wasi_config_set_argv": (c_bool, (P, c_size_t, P)),
    "wasi_config_set_env": (c_bool, (P, c_size_t, P, P)),
    "wasi_config_set_stdin_file": (c_bool, (P, c_char_p)),
    "wasi_config_inherit_stdout": (None, (P,)),
    "wasi_config_inherit_stderr": (None, (P,)),
    "wasi_config_preopen_dir": (c_bool, (P, c_char_p, c_char_p, c_bool)),
    "wasmtime_config_consume_fuel_set": (None, (P, c_bool)),
    "wasmtime_config_host_memory_creator_set": (None, (P, P)),
    "wasmtime_config_memory_init_cow_set": (None, (P, c_bool)),
    "wasmtime_config_wasm_memory64_set": (None, (P, c_bool)),
    "wasmtime_config_wasm_threads_set": (None, (P, c_bool)),
    "wasmtime_context_set_fuel": (P, (P, c_uint64)),
    "wasmtime_context_set_wasi": (P, (P, P)),
    "wasmtime_error_exit_status": (c_bool, (P, P)),
    "wasmtime_error_message": (None, (P, P)),
    "wasmtime_error_new": (P, (c_char_p,)),
    "wasmtime_func_call": (P, (P, P, P, c_size_t, P, c_size_t, P)),
    "wasmtime_linker_define_wasi": (P, (P,)),
    "wasmtime_instance_export_get": (c_bool, (P, P, c_char_p, c_size_t, P)),
    "wasmtime_linker_instantiate": (P, (P, P, P, P, P)),
    "wasmtime_linker_new": (P, (P,)),
    "wasmtime_module_deserialize": (P, (P, c_char_p, c_size_t, P)),
    "wasmtime_module_new": (P, (P, c_char_p, c_size_t, P)),
    "wasmtime_module_serialize": (P, (P, P)),
    "wasmtime_store_context": (P, (P,)),
    "wasmtime_store_limiter": (None, (P, c_int64, c_int64, c_int64, c_int64, c_int64)),
    "wasmtime_store_new": (P, (P, P, P)),
    "wasmtime_trap_code": (c_bool, (P, P)),
}
"""Name → (result, arguments). Every pointer is a plain address."""
COMPONENT_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wasmtime_component_deserialize": (P, (P, c_char_p, c_size_t, P)),
    "wasmtime_component_func_call": (P, (P, P, P, c_size_t, P, c_size_t)),
    "wasmtime_component_get_export_index": (P, (P, P, c_char_p, c_size_t)),
    "wasmtime_component_instance_get_func": (c_bool, (P, P, P, P)),
    "wasmtime_component_linker_add_wasip2": (P, (P,)),
    "wasmtime_component_linker_allow_shadowing": (None, (P, c_bool)),
    "wasmtime_component_linker_instance_add_func": (P, (P, c_char_p, c_size_t, HostFunc, P, Finalizer)),
    "wasmtime_component_linker_instance_add_instance": (P, (P, c_char_p, c_size_t, P)),
    "wasmtime_component_linker_instance_delete": (None, (P,)),
    "wasmtime_component_linker_instantiate": (P, (P, P, P, P)),
    "wasmtime_component_linker_new": (P, (P,)),
    "wasmtime_component_linker_root": (P, (P,)),
    "wasmtime_component_new": (P, (P, c_char_p, c_size_t, P)),
    "wasmtime_component_serialize": (P, (P, P)),
}
"""The same, for components only."""
SERVER_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wasm_functype_new": (P, (P, P)),
    "wasm_valtype_new": (P, (c_uint8,)),
    "wasm_valtype_vec_new": (None, (P, c_size_t, P)),
    "wasmtime_linker_allow_shadowing": (None, (P, c_bool)),
    "wasmtime_linker_define": (P, (P, P, c_char_p, c_size_t, c_char_p, c_size_t, P)),
    "wasmtime_linker_define_func_unchecked": (
        P,
        (P, c_char_p, c_size_t, c_char_p, c_size_t, P, RawFunc, P, Finalizer),
    ),
    "wasmtime_memory_data": (P, (P, P)),
    "wasmtime_memory_data_size": (c_size_t, (P, P)),
    "wasmtime_trap_new": (P, (c_char_p, c_size_t)),
    "wasmtime_wat2wasm": (P, (c_char_p, c_size_t, P)),
}
"""The same, for servers only."""

EXTERN_FUNC, EXTERN_TABLE, EXTERN_MEMORY = 0, 2, 3
VALUE_I32, VALUE_I64 = 0, 1
TRAP_OUT_OF_FUEL = 11


class WasmtimeError(Exception):
    """The library refused; ``exit_code`` is set where the program ended itself by ``proc_exit``."""

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Library:
    """The loaded library, its functions as attributes of the same name.

    :raises OSError: the file cannot be loaded.
    :raises AttributeError: it lacks a function.
    """

    def __init__(self, path: str) -> None:
        self.c: Any = ctypes.CDLL(path)  # ctypes gives functions no static type
        self._declare(FUNCTIONS)

    def with_servers(self) -> None:
        """Declare what servers need.

        :raises AttributeError: it lacks a function.
        """
        self._declare(SERVER_FUNCTIONS)

    def with_components(self) -> None:
        """Declare what components need.

        :raises AttributeError: it lacks a function.
        """
        self._declare(COMPONENT_FUNCTIONS)

    def _declare(self, functions: dict[str, tuple[Any, tuple[Any, ...]]]) -> None:
        for name, (result, arguments) in functions.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments

    def check(self, error: int | None) -> None:
        """Turn a returned ``wasmtime_error_t`` into an exception."""
        if not error:
            return
        message, status = ByteVec(), c_int()
        self.c.wasmtime_error_message(error, ctypes.byref(message))
        exited = self.c.wasmtime_error_exit_status(error, ctypes.byref(status))
        raise WasmtimeError(self.take(message).decode("utf-8", "replace"), status.value if exited else None)

    def take(self, vec: ByteVec) -> bytes:
        """The bytes of a vector that the library filled; frees it."""
        data = ctypes.string_at(vec.data, vec.size) if vec.size else b""
        self.c.wasm_byte_vec_delete(ctypes.byref(vec))
        return data

    def trap(self, trap: int) -> tuple[int | None, str]:
        """Code and message of a ``wasm_trap_t``."""
        message, code = ByteVec(), c_uint8()
        self.c.wasm_trap_message(trap, ctypes.byref(message))
        known = self.c.wasmtime_trap_code(trap, ctypes.byref(code))
        return code.value if known else None, self.take(message).rstrip(b"\0").decode("utf-8", "replace")
