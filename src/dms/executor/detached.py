"""What the processes that outlive the daemon share: files written whole, their own identity, logs of bounded size.

Standard library only, and little of it: this is part of the start of every workload.

A log is the file ``stdout.log`` with the first ``limit_bytes`` of the output and a line that says that it was cut. What
comes after goes into files such as ``stdout.67108906.log``, of which the last two are kept; the number is the place of
their first byte in the whole, so that a place means the same for ever. So both the beginning and the end of an endless
output are there, and the disk is not filled. ``stdout.times`` tells which byte was the first after which moment.
"""

from __future__ import annotations

import os
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself, and collections.abc, would cost milliseconds of every start
    from collections.abc import Callable

LAST_PART = 8
"""The files with the last output hold at most this part of the limit each."""
KEPT_LAST = 2
TIMES_INTERVAL_S = 0.5
"""Between two entries of the index of times."""
MAX_TIMES = 1 << 16
"""Entries of that index; later output counts as written at the last of them, so that one gets rather more than less."""
TIME_ENTRY = struct.Struct("<QQ")
"""UNIX milliseconds, offset."""


class LogFile:
    """One output on the disk, see the module. A full disk costs output, never the workload.

    ``anew`` empties what an earlier process wrote; otherwise the first file is continued.
    """

    def __init__(
        self, path: str, limit_bytes: int, *, anew: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self._limit_bytes, self._clock = limit_bytes, clock
        self._base = path.removesuffix(".log")
        self._parts = log_parts(path)
        if anew:
            while self._parts:
                remove_file(self._part(self._parts.pop()))
            remove_file(f"{self._base}.times")
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if anew else 0)
        self._fd = os.open(path, flags, 0o600)
        self.written = os.lseek(self._fd, 0, os.SEEK_END)
        """Bytes of the first file, the line about the cut included."""
        self._is_cut = self.written > limit_bytes
        self._last_fd, self._last_bytes = -1, 0
        self._times_fd, self._times, self._next_time = -1, 0, 0.0

    def write(self, chunk: bytes) -> None:
        """Append."""
        try:
            if self._is_cut:
                self._write_last(chunk)
                return
            self._note_time()
            part = chunk[: self._limit_bytes - self.written]
            self._append(self._fd, part)
            self.written += len(part)
            if len(part) < len(chunk):
                self._is_cut = True
                notice = b"\n[output cut here: the limit is %d bytes]\n" % self._limit_bytes
                self._append(self._fd, notice)
                self.written += len(notice)
                self._write_last(chunk[len(part) :])
        except OSError:
            pass

    def close(self) -> None:
        """Nothing more comes."""
        for fd in (self._fd, self._last_fd, self._times_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._last_fd = self._times_fd = -1

    def _write_last(self, chunk: bytes) -> None:
        room = max(1, self._limit_bytes // LAST_PART)
        while chunk:
            if self._last_fd < 0 or self._last_bytes >= room:
                self._begin_last()
            part = chunk[: room - self._last_bytes]
            self._append(self._last_fd, part)
            self._last_bytes += len(part)
            chunk = chunk[len(part) :]

    def _begin_last(self) -> None:
        if self._last_fd >= 0:
            os.close(self._last_fd)
            self._last_fd = -1
        end = os.fstat(self._fd).st_size  # and not what was to be written: the disk may have been full
        if self._parts:
            end = self._parts[-1] + os.stat(self._part(self._parts[-1])).st_size  # noqa: PTH116
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._last_fd, self._last_bytes = os.open(self._part(end), flags, 0o600), 0
        if end not in self._parts:
            self._parts.append(end)
        while len(self._parts) > KEPT_LAST:
            remove_file(self._part(self._parts.pop(0)))

    def _part(self, start: int) -> str:
        return f"{self._base}.{start}.log"

    def _note_time(self) -> None:
        now = self._clock()
        if now < self._next_time or self._times >= MAX_TIMES:
            return
        if self._times_fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._times_fd = os.open(f"{self._base}.times", flags, 0o600)
        self._append(self._times_fd, TIME_ENTRY.pack(int(now * 1000), self.written))
        self._times += 1
        self._next_time = now + TIMES_INTERVAL_S

    @staticmethod
    def _append(fd: int, data: bytes) -> None:
        while data:
            data = data[os.write(fd, data) :]


def log_parts(path: str) -> list[int]:
    """Where the files with the last output begin, in their order; empty while the first file suffices."""
    directory, name = os.path.split(path)
    base = name.removesuffix(".log")
    found = [entry[len(base) + 1 : -4] for entry in os.listdir(directory or ".") if entry.startswith(f"{base}.")]  # noqa: PTH208
    return sorted(int(number) for number in found if number.isdecimal())


def write_file(path: str, data: bytes, *, sync: bool = True) -> None:
    """Write whole or not at all; with ``sync``, so that it is there after a power failure too."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)  # noqa: PTH105


def remove_file(path: str) -> None:
    """Delete it; it need not be there."""
    try:  # noqa: SIM105  contextlib would cost 5 ms of every start
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        pass


def write_pid(directory: str, pid: int) -> None:
    """Tell which process it is. The one who starts it does so too: whoever comes first."""
    write_file(os.path.join(directory, "pid"), f"{pid} {start_ticks(pid)}".encode(), sync=False)  # noqa: PTH118


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: with its id it names a process for ever.

    :raises OSError: there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return int(file.read().rpartition(b")")[2].split()[19])
