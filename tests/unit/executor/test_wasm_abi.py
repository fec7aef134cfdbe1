"""Our declarations of Wasmtime's functions are those of the installed package."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
from wasmtime import _bindings, _ffi  # type: ignore[attr-defined,unused-ignore]

from dms.executor import wasm_abi


def _is_pointer(type_: Any) -> bool:
    if type_ is None:
        return False
    return type_ in (ctypes.c_void_p, ctypes.c_char_p) or issubclass(type_, ctypes._Pointer | ctypes._CFuncPtr)  # type: ignore[attr-defined]


FUNCTIONS = wasm_abi.FUNCTIONS | wasm_abi.COMPONENT_FUNCTIONS | wasm_abi.SERVER_FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_declared_as_in_the_package(name: str) -> None:
    result, arguments = FUNCTIONS[name]
    theirs = getattr(_bindings, f"_{name}")
    assert len(theirs.argtypes) == len(arguments)
    for ours, other in zip((result, *arguments), (theirs.restype, *theirs.argtypes), strict=True):
        assert _is_pointer(ours) if _is_pointer(other) else ours is other


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (wasm_abi.ByteVec, "wasm_byte_vec_t"),
        (wasm_abi.Func, "wasmtime_func"),
        (wasm_abi.Instance, "wasmtime_instance"),
        (wasm_abi.ComponentInstance, "wasmtime_component_instance"),
        (wasm_abi.ComponentFunc, "wasmtime_component_func"),
        (wasm_abi.LinearMemory, "wasmtime_linear_memory"),
        (wasm_abi.MemoryCreator, "wasmtime_memory_creator"),
    ],
)
def test_a_structure_is_laid_out_as_in_the_package(ours: type[ctypes.Structure], theirs: str) -> None:
    other = getattr(_bindings, theirs)
    assert ctypes.sizeof(ours) == ctypes.sizeof(other)
    assert ctypes.alignment(ours) == ctypes.alignment(other)
    for (our_name, *_), (their_name, *_) in zip(ours._fields_, other._fields_, strict=True):
        assert getattr(ours, our_name).offset == getattr(other, their_name).offset


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (wasm_abi.HostFunc, "wasmtime_component_func_callback_t"),
        (wasm_abi.RawFunc, "wasmtime_func_unchecked_callback_t"),
        (wasm_abi.NewMemory, "wasmtime_new_memory_callback_t"),
        (wasm_abi.GrowMemory, "wasmtime_memory_grow_callback_t"),
        (wasm_abi.GetMemory, "wasmtime_memory_get_callback_t"),
    ],
)
def test_a_callback_is_declared_as_in_the_package(ours: Any, theirs: str) -> None:
    other = getattr(_bindings, theirs)
    assert ours._restype_ is other._restype_
    assert len(ours._argtypes_) == len(other._argtypes_)
    for our, their in zip(ours._argtypes_, other._argtypes_, strict=True):
        assert _is_pointer(our) if _is_pointer(their) else our is their


def test_the_place_of_a_function_in_an_extern_is_that_of_the_package() -> None:
    assert wasm_abi.Extern.func.offset == _bindings.wasmtime_extern.of.offset
    assert ctypes.sizeof(wasm_abi.Extern) >= ctypes.sizeof(_bindings.wasmtime_extern)
    assert ctypes.sizeof(wasm_abi.RawValue) == ctypes.sizeof(_bindings.wasmtime_val_raw)
    kinds = (_ffi.WASMTIME_EXTERN_FUNC, _ffi.WASMTIME_EXTERN_TABLE, _ffi.WASMTIME_EXTERN_MEMORY)
    assert [one.value for one in kinds] == [wasm_abi.EXTERN_FUNC, wasm_abi.EXTERN_TABLE, wasm_abi.EXTERN_MEMORY]
    assert _ffi.WASM_I32.value == wasm_abi.VALUE_I32
    assert _ffi.WASM_I64.value == wasm_abi.VALUE_I64


@pytest.mark.parametrize(
    ("write", "byte"),
    [
        (lambda value: setattr(value.of, "u8", ctypes.c_uint8(200)), 200),
        (lambda value: setattr(value.of.result, "is_ok", True), 1),
        (lambda value: setattr(value.of.result, "is_ok", False), 0),
    ],
)
def test_a_value_is_read_as_the_package_writes_it(write: Callable[[Any], None], byte: int) -> None:
    theirs = _bindings.wasmtime_component_val()
    ctypes.memset(ctypes.byref(theirs), 0xA5, ctypes.sizeof(theirs))
    write(theirs)
    ours = wasm_abi.ComponentValue.from_buffer(theirs)
    assert ours.byte == byte
    assert ctypes.sizeof(wasm_abi.ComponentValue) == ctypes.sizeof(theirs)


def test_the_trap_code_is_that_of_the_package() -> None:
    assert _bindings.wasmtime_trap_code_enum.WASMTIME_TRAP_CODE_OUT_OF_FUEL.value == wasm_abi.TRAP_OUT_OF_FUEL
