"""Reading a log while it grows (:mod:`dms.executor.detached` tells what lies on the disk)."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import trio

from dms.executor.detached import TIME_ENTRY, log_parts
from dms.executor.protocol import LogStreamRequest

LOG_POLL_S = 0.1
"""How often a followed log is looked at."""
LOG_CHUNK_BYTES = 1 << 16
STDOUT_LOG, STDERR_LOG = "stdout.log", "stderr.log"
LOG_FILES = {"stdout": STDOUT_LOG, "stderr": STDERR_LOG}
LOST = b"\n[output left out here: it came faster than it was read, or than it could be kept]\n"


class Logged(Protocol):
    """What a reader needs of an execution."""

    @property
    def results_dir(self) -> Path | None:
        """Where its logs lie; ``None``: it has none."""
        ...

    @property
    def done(self) -> trio.Event:
        """Set when it has ended."""
        ...


class LogReader:
    """The chunks of one log as it grows.

    An iterator object and no generator: it holds nothing open between two chunks, so it needs no closing.
    """

    def __init__(self, request: LogStreamRequest, get: Callable[[str], Awaitable[Logged]], *, in_thread: bool) -> None:
        self._request, self._get, self._in_thread = request, get, in_thread
        self._execution: Logged | None = None
        self._cursor: Cursor | None = None

    def __aiter__(self) -> LogReader:
        return self

    async def __anext__(self) -> bytes:
        if self._execution is None:
            self._execution = await self._get(self._request.execution_id)
        execution = self._execution
        if execution.results_dir is None:
            if self._request.follow:
                await execution.done.wait()
            raise StopAsyncIteration
        if self._cursor is None:
            self._cursor = Cursor(execution.results_dir / LOG_FILES[self._request.stream], self._request)
        while True:
            ended = execution.done.is_set()  # asked before reading: what was written before the end is then seen
            read = self._cursor.read
            chunk = await trio.to_thread.run_sync(read) if self._in_thread else read()
            if chunk:
                return chunk
            if ended or not self._request.follow:
                raise StopAsyncIteration
            with trio.move_on_after(LOG_POLL_S):
                await execution.done.wait()


class Cursor:
    """A place in a log whose files may be dropped behind it: number of the file, 0 for the first, and offset in it."""

    def __init__(self, path: Path, request: LogStreamRequest) -> None:
        self._head, self._base = path, str(path).removesuffix(".log")
        self._request = request
        self._number, self._offset, self._has_begun = 0, 0, False

    def read(self) -> bytes:
        """The next bytes; none when there are no more for now."""
        while True:
            numbers, was_dropped, chunk = [0], False, b""
            try:
                numbers += log_parts(str(self._head))  # before reading: a file with a successor is complete
                if not self._has_begun:
                    self._begin(numbers)
                with self._path(self._number).open("rb") as file:
                    file.seek(self._offset)
                    chunk = file.read(LOG_CHUNK_BYTES)
            except FileNotFoundError:
                was_dropped = self._has_begun
            self._offset += len(chunk)
            later = [number for number in numbers if number > self._number]
            if chunk or not later or not self._has_begun:
                return chunk
            is_gap = was_dropped or later[0] != self._number + 1
            self._number, self._offset = later[0], 0
            if is_gap:
                return LOST

    def _path(self, number: int) -> Path:
        return Path(f"{self._base}.{number}.log") if number else self._head

    def _begin(self, numbers: list[int]) -> None:
        sizes = [self._path(number).stat().st_size for number in numbers]
        skip = 0
        if self._request.since_s is not None:
            skip = self._offset_at(self._request.since_s)
        if self._request.tail_bytes is not None:
            skip = max(skip, sum(sizes) - max(0, self._request.tail_bytes))
        for number, size in zip(numbers, sizes, strict=True):
            self._number, self._offset, self._has_begun = number, min(skip, size), True
            if skip < size:
                return
            skip -= size

    def _offset_at(self, since_s: float) -> int:
        """Where to begin so that nothing since then is missed; rather too early than too late."""
        try:
            entries = list(TIME_ENTRY.iter_unpack(Path(f"{self._base}.times").read_bytes()))
        except (OSError, struct.error):
            entries = []
        index = bisect.bisect_right(entries, int(since_s * 1000), key=lambda entry: entry[0])
        if index == len(entries) and since_s > self._head.stat().st_mtime + 1:
            return self._head.stat().st_size  # the first file was finished before
        return int(entries[index - 1][1]) if index else 0
