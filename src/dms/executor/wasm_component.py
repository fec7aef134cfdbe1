"""Running a WASI component: the export ``run`` of ``wasi:cli/run@0.2``. Standard library only.

Components see the interfaces of ``wasi:cli`` 0.2: arguments, environment, standard streams, clocks, random numbers, the
directories that they were given. ``wasi:sockets`` is there, but no socket is given out; ``wasi:http`` is not there.

What they do not get from the library is an exit code of more than one bit: ``wasi:cli/exit`` knows success and failure,
and its function ``exit-with-code`` is not among those of Wasmtime's C interface. So this module gives the instance
itself, with both functions.
"""

from __future__ import annotations

import ctypes

from dms.executor.wasm_abi import ComponentFunc, ComponentInstance, ComponentValue, Finalizer, HostFunc, WasmtimeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from dms.executor.wasm_abi import Library

MAX_VERSION = 99
"""Versions 0.2.0 to 0.2.<this> of an interface are the same to us."""
KNOWN_VERSIONS = (*range(16), MAX_VERSION)
"""A linker takes for a version that it does not know the highest one that it knows; those that Wasmtime may define by
itself must be replaced one by one."""


def call_run(library: Library, engine: int, context: int, component: int, on_exit: Callable[[int], NoReturn]) -> bool:
    """Run the program to its end; whether it says that it went well. ``on_exit`` is called with the exit code when it
    ends itself.

    :raises WasmtimeError: it trapped, or could not be started.
    """
    c = library.c
    linker, instance, function = c.wasmtime_component_linker_new(engine), ComponentInstance(), ComponentFunc()
    library.check(c.wasmtime_component_linker_add_wasip2(linker))
    kept = _define_exit(library, linker, on_exit)
    library.check(c.wasmtime_component_linker_instantiate(linker, context, component, ctypes.byref(instance)))
    index = _find_run(library, component)
    if not c.wasmtime_component_instance_get_func(ctypes.byref(instance), context, index, ctypes.byref(function)):
        raise WasmtimeError(_NO_RUN)
    result = ComponentValue()
    library.check(c.wasmtime_component_func_call(ctypes.byref(function), context, None, 0, ctypes.byref(result), 1))
    del kept
    return bool(result.byte)


_NO_RUN = "it exports no wasi:cli/run@0.2: it is a library or a server, not a program"


def _find_run(library: Library, component: int) -> int:
    for version in range(MAX_VERSION):
        name = b"wasi:cli/run@0.2.%d" % version
        found = library.c.wasmtime_component_get_export_index(component, None, name, len(name))
        if found:
            run = library.c.wasmtime_component_get_export_index(component, found, b"run", 3)
            if run:
                return int(run)
    raise WasmtimeError(_NO_RUN)


def _define_exit(library: Library, linker: int, on_exit: Callable[[int], NoReturn]) -> object:
    """``wasi:cli/exit`` of ours; what is returned must be kept as long as the program runs."""
    c = library.c

    def leave(_data: object, _context: object, _type: object, args: Any, *_results: object) -> int:
        on_exit(0 if args[0].byte else 1)

    def leave_with_code(_data: object, _context: object, _type: object, args: Any, *_results: object) -> int:
        on_exit(args[0].byte)

    functions = {b"exit": HostFunc(leave), b"exit-with-code": HostFunc(leave_with_code)}
    nothing = Finalizer(lambda _data: None)
    c.wasmtime_component_linker_allow_shadowing(linker, True)
    root, exit_instance = c.wasmtime_component_linker_root(linker), ctypes.c_void_p()
    for version in KNOWN_VERSIONS:
        name = b"wasi:cli/exit@0.2.%d" % version
        library.check(
            c.wasmtime_component_linker_instance_add_instance(root, name, len(name), ctypes.byref(exit_instance))
        )
        for function, callback in functions.items():
            library.check(
                c.wasmtime_component_linker_instance_add_func(
                    exit_instance, function, len(function), callback, None, nothing
                )
            )
        c.wasmtime_component_linker_instance_delete(exit_instance)
    c.wasmtime_component_linker_instance_delete(root)
    return functions, nothing
