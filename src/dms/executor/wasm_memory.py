"""The memory of one WebAssembly program, counted and bounded by us. Standard library only."""

from __future__ import annotations

import ctypes
import os

from dms.executor.wasm_abi import Finalizer, GetMemory, GrowMemory, Library, LinearMemory, MemoryCreator, NewMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROT_READ_WRITE, _MAP_PRIVATE_ANON_NORESERVE = 0x1 | 0x2, 0x02 | 0x20 | 0x4000


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
