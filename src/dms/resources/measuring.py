"""What the machine really does: processors, memory, disk, loopback, each for a fraction of a second.

The figures are for comparing machines and for noticing that one got slower; they are no promise to anybody. Everything
runs in one thread that is abandoned when its caller is cancelled: no part goes on for more than a moment after its
time, except where a disk takes longer than that for a single block.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio

from dms.hardware.disk import existing_ancestor
from dms.hardware.processor import usable_threads
from dms.resources.benchmark import Benchmark

PART_S = 0.5
"""For each of the parts, of which there are :data:`PARTS`."""

PARTS = 8
MAX_THREADS = 64
BLOCK_BYTES = 4 << 20
MEMORY_BYTES = 64 << 20
"""More than the caches of most processors hold."""

MAX_FILE_BYTES = 256 << 20
FREE_SHARE = 0.05
"""Of the free disk space at most this much is written for a moment."""

HASH_BYTES = 1 << 20


async def measure(work_dir: Path, *, part_s: float = PART_S, now: Callable[[], float] = time.time) -> Benchmark:
    """Measure all; takes about ``part_s`` times :data:`PARTS`. The disk is that of ``work_dir``."""
    return await trio.to_thread.run_sync(measure_sync, work_dir, part_s, now, abandon_on_cancel=True)


def measure_sync(work_dir: Path, part_s: float = PART_S, now: Callable[[], float] = time.time) -> Benchmark:
    """As :func:`measure`, in this thread."""
    begun = time.perf_counter()
    write, read, sync_s = _disk(existing_ancestor(work_dir), part_s)
    loopback, rtt_s = _loopback(part_s)
    threads = min(usable_threads(), MAX_THREADS)
    return Benchmark(
        measured_at=now(),
        cpu_single_bps=_hashed(1, part_s),
        cpu_all_bps=_hashed(threads, part_s),
        memory_copy_bps=_copied(part_s),
        disk_write_bps=write,
        disk_read_bps=read,
        disk_sync_s=sync_s,
        loopback_bps=loopback,
        loopback_rtt_s=rtt_s,
        seconds=round(time.perf_counter() - begun, 3),
    )


def _hashed(threads: int, part_s: float) -> int:
    """Hashing large pieces lets other threads run, so that all processors work."""
    block = bytes(HASH_BYTES)
    start = threading.Barrier(threads)

    def work() -> float:
        start.wait()
        done = 0
        for _ in _until(part_s, clock := _Clock()):
            hashlib.blake2b(block).digest()
            done += len(block)
        return done / clock.passed()

    with ThreadPoolExecutor(threads) as pool:
        rates = [pool.submit(work) for _ in range(threads)]
        return round(sum(rate.result() for rate in rates))


def _copied(part_s: float) -> int:
    source, goal = memoryview(bytearray(MEMORY_BYTES)), memoryview(bytearray(MEMORY_BYTES))
    goal[:] = source  # touches every page once
    done = 0
    for _ in _until(part_s, clock := _Clock()):
        goal[:] = source
        done += MEMORY_BYTES
    return round(done / clock.passed())


def _disk(directory: Path, part_s: float) -> tuple[int, int, float]:
    """Written and read bytes a second, and the time of a small synced write; zeros where nothing may be written."""
    try:
        limit = min(MAX_FILE_BYTES, int(shutil.disk_usage(directory).free * FREE_SHARE))
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            return _on_file(file.fileno(), limit, part_s)
    except OSError:
        return 0, 0, 0.0


def _on_file(handle: int, limit: int, part_s: float) -> tuple[int, int, float]:
    block = os.urandom(BLOCK_BYTES)  # some devices are fast with zeros only
    written = 0
    clock = _Clock()
    for _ in _until(part_s, clock):
        if written + BLOCK_BYTES > limit:
            break
        written += os.write(handle, block)
    os.fsync(handle)
    write_bps = round(written / clock.passed())

    with contextlib.suppress(AttributeError):  # Linux has it, others do not
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(handle, 0, os.SEEK_SET)
    read = 0
    clock = _Clock()
    for _ in _until(part_s, clock):
        piece = len(os.read(handle, BLOCK_BYTES))
        if not piece:
            break
        read += piece
    read_bps = round(read / clock.passed())

    times = []
    os.lseek(handle, 0, os.SEEK_SET)
    for _ in _until(part_s, _Clock()):
        one = _Clock()
        os.write(handle, block[:4096])
        os.fsync(handle)
        times.append(one.passed())
    return write_bps, read_bps, round(statistics.median(times), 6)


def _loopback(part_s: float) -> tuple[int, float]:
    """Bytes a second and round trip of TCP to this machine itself; zeros where there is no loopback."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
            far, _ = server.accept()
            with far:
                return _stream(near, far, part_s), _round_trip(near, far, part_s)
    except OSError:
        return 0, 0.0


def _stream(near: socket.socket, far: socket.socket, part_s: float) -> int:
    """What comes in counts."""
    block = bytes(HASH_BYTES)
    sent = 0

    def send() -> None:
        nonlocal sent
        for _ in _until(part_s, _Clock()):
            near.sendall(block)
            sent += len(block)

    sender = threading.Thread(target=send, daemon=True)
    clock = _Clock()
    sender.start()
    received, buffer = 0, bytearray(HASH_BYTES)
    far.settimeout(max(part_s, 0.05))
    while sender.is_alive() or received < sent:
        with contextlib.suppress(TimeoutError):
            received += far.recv_into(buffer)
    passed = clock.passed()
    sender.join()
    far.settimeout(None)
    return round(received / passed)


def _round_trip(near: socket.socket, far: socket.socket, part_s: float) -> float:
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in _until(part_s, _Clock()):
        one = _Clock()
        near.sendall(b"?")
        far.recv(1)
        far.sendall(b"!")
        near.recv(1)
        times.append(one.passed())
    return round(statistics.median(times), 9)


class _Clock:
    def __init__(self) -> None:
        self._begun = time.perf_counter()

    def passed(self) -> float:
        return max(time.perf_counter() - self._begun, 1e-9)


def _until(seconds: float, clock: _Clock) -> Iterator[None]:
    """Again and again until the time is over; once at least."""
    yield
    while clock.passed() < seconds:
        yield
