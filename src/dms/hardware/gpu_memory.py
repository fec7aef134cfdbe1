"""Writing a pattern into the memory of a graphics processor and reading it back, through its vendor's library.

Nothing is linked: CUDA's driver library and HIP's runtime are loaded where they are installed, which is where their
drivers are. Both are called in the thread that asks; a driver that hangs hangs there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dms.hardware.gpu import AMD, NVIDIA, GPUInfo

CUDA_LIBRARY = "libcuda.so.1"
HIP_LIBRARIES = ("libamdhip64.so", "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5")

SIZE_BYTES = 16 << 20
PATTERN = 0x5A
_DEVICE_TO_HOST = 2


class NoLibrary(Exception):
    """The vendor's library is not installed, or cannot reach this device."""


class DeviceFailed(Exception):
    """The device, or its driver, did not do what it should."""


def write_and_read(gpu: GPUInfo, size_bytes: int = SIZE_BYTES) -> str:
    """Fill so much memory of the device by the device itself, fetch it and compare; what was done, in words.

    :raises NoLibrary: there is no way to try.
    :raises DeviceFailed: it was tried and failed.
    """
    if gpu.uuid.startswith("MIG-"):
        raise NoLibrary("a part of a divided device is only reached by programs started for it")
    if gpu.vendor == NVIDIA:
        content = _cuda(gpu, size_bytes)
    elif gpu.vendor == AMD:
        content = _hip(gpu, size_bytes)
    else:
        raise NoLibrary(f"no library for devices of {gpu.vendor} is known")
    if content != bytes((PATTERN,)) * size_bytes:
        raise DeviceFailed("the memory holds something else than was written")
    return f"{size_bytes >> 20} MiB written by the device and read back"


def _cuda(gpu: GPUInfo, size_bytes: int) -> bytes:
    library = _load(CUDA_LIBRARY)
    call = _Caller(library, "CUDA", "cuGetErrorString", by_pointer=True)
    device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    call("cuInit", ctypes.c_uint(0))
    call("cuDeviceGetByPCIBusId", ctypes.byref(device), gpu.pci_address.encode())
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    with _finally(call, "cuDevicePrimaryCtxRelease_v2", device):
        call("cuCtxSetCurrent", context)
        call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(size_bytes))
        with _finally(call, "cuMemFree_v2", memory):
            call("cuMemsetD8_v2", memory, ctypes.c_ubyte(PATTERN), ctypes.c_size_t(size_bytes))
            content = ctypes.create_string_buffer(size_bytes)
            call("cuMemcpyDtoH_v2", content, memory, ctypes.c_size_t(size_bytes))
    return content.raw


def _hip(gpu: GPUInfo, size_bytes: int) -> bytes:
    library = _load(*HIP_LIBRARIES)
    call = _Caller(library, "HIP", "hipGetErrorString", by_pointer=False)
    device, memory = ctypes.c_int(), ctypes.c_void_p()
    call("hipInit", ctypes.c_uint(0))
    call("hipDeviceGetByPCIBusId", ctypes.byref(device), gpu.pci_address.encode())
    call("hipSetDevice", device)
    call("hipMalloc", ctypes.byref(memory), ctypes.c_size_t(size_bytes))
    with _finally(call, "hipFree", memory):
        call("hipMemset", memory, ctypes.c_int(PATTERN), ctypes.c_size_t(size_bytes))
        content = ctypes.create_string_buffer(size_bytes)
        call("hipMemcpy", content, memory, ctypes.c_size_t(size_bytes), ctypes.c_int(_DEVICE_TO_HOST))
    return content.raw


class _Caller:
    """Calls functions that answer with a number, 0 for success."""

    def __init__(self, library: ctypes.CDLL, name: str, explain: str, *, by_pointer: bool) -> None:
        self._library = library
        self._name = name
        self._explain = explain
        self._by_pointer = by_pointer

    def __call__(self, function: str, *arguments: Any) -> None:  # whatever ctypes takes
        try:
            called = getattr(self._library, function)
        except AttributeError:
            raise NoLibrary(f"this {self._name} library has no {function}") from None
        code = int(called(*arguments))
        if code:
            raise DeviceFailed(f"{function}: {self._reason(code)}")

    def _reason(self, code: int) -> str:
        text: bytes | None
        try:
            explain = getattr(self._library, self._explain)
        except AttributeError:
            return f"error {code}"
        if self._by_pointer:
            answer = ctypes.c_char_p()
            explain(ctypes.c_int(code), ctypes.byref(answer))
            text = answer.value
        else:
            explain.restype = ctypes.c_char_p
            text = explain(ctypes.c_int(code))
        return f"{text.decode('utf-8', 'replace')} ({code})" if text else f"error {code}"


@contextmanager
def _finally(call: _Caller, function: str, *arguments: Any) -> Iterator[None]:
    """Give back at the end, whatever happened; that this fails matters only where nothing else has."""
    try:
        yield
    except BaseException:
        with suppress(DeviceFailed, NoLibrary):  # the first failure says more
            call(function, *arguments)
        raise
    call(function, *arguments)


def _load(*names: str) -> ctypes.CDLL:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NoLibrary(f"{names[0]} is not installed")
