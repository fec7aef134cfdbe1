"""Reading a log while it grows (:mod:`dms.executor.detached` tells what lies on the disk)."""

from __future__ import annotations

import bisect
import contextlib
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from dms.executor.detached import TIME_ENTRY, log_parts
from dms.executor.protocol import LogStreamRequest

LOG_POLL_S = 0.1
"""How often a followed log is looked at."""
LOG_CHUNK_BYTES = 1 << 18
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


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Some bytes of a log."""

    offset: int
    """Of the first of them. More than was asked for: what lies between is not kept any more."""
    data: bytes
    end: int
    """How long the whole is by now, what was dropped included."""


def read_log(path: Path, offset: int, max_bytes: int) -> LogPiece:
    """Up to ``max_bytes`` from ``offset`` on; negative: counted from the end. ``path`` is that of the first file, and one
    that is not there yet is empty. A place that lies behind the end is the end.
    """
    while True:
        try:
            return _read(path, offset, max_bytes)
        except FileNotFoundError:
            if not path.exists():
                return LogPiece(0, b"", 0)
            # a later file was dropped meanwhile: look again


def offset_at(path: Path, since_s: float) -> int:
    """Where to begin so that nothing since then (UNIX seconds) is missed; rather too early than too late.

    :raises FileNotFoundError: the log is not there yet.
    """
    base, head_s = _base(path), path.stat().st_mtime
    try:
        entries = list(TIME_ENTRY.iter_unpack(Path(f"{base}.times").read_bytes()))
    except (OSError, struct.error):
        entries = []
    index = bisect.bisect_right(entries, int(since_s * 1000), key=lambda entry: entry[0])
    if index < len(entries) or since_s <= head_s + 1:
        return int(entries[index - 1][1]) if index else 0
    for start in log_parts(str(path)):  # the first file was finished before
        with contextlib.suppress(FileNotFoundError):
            if since_s <= _file(path, start).stat().st_mtime + 1:
                return start
    return read_log(path, -1, 0).end


class Cursor:
    """A place in a log, whose files may be dropped behind it."""

    def __init__(self, path: Path, request: LogStreamRequest) -> None:
        self._path, self._request = path, request
        self._offset, self._has_begun = 0, False

    def read(self) -> bytes:
        """The next bytes; none when there are no more for now."""
        if not self._has_begun:
            try:
                self._begin()
            except FileNotFoundError:
                return b""
        piece = read_log(self._path, self._offset, LOG_CHUNK_BYTES)
        if piece.offset > self._offset:
            self._offset = piece.offset
            return LOST
        self._offset += len(piece.data)
        return piece.data

    def _begin(self) -> None:
        if self._request.since_s is not None:
            self._offset = offset_at(self._path, self._request.since_s)
        if self._request.tail_bytes is not None:
            end = read_log(self._path, 0, 0).end
            self._offset = max(self._offset, end - max(0, self._request.tail_bytes))
        self._offset = read_log(self._path, self._offset, 0).offset
        self._has_begun = self._path.exists()


def _read(path: Path, offset: int, max_bytes: int) -> LogPiece:
    starts = [0, *log_parts(str(path))]  # before reading: a file with a successor is complete
    end = starts[-1] + _file(path, starts[-1]).stat().st_size
    place = min(max(0, end + offset) if offset < 0 else offset, end)
    index = bisect.bisect_right(starts, place) - 1
    if index + 1 < len(starts) and place >= starts[index] + _file(path, starts[index]).stat().st_size:
        index += 1
        place = starts[index]
    first, data = place, bytearray()
    while True:
        with _file(path, starts[index]).open("rb") as file:
            file.seek(place - starts[index])
            data += file.read(max(0, max_bytes - len(data)))
        place, index = first + len(data), index + 1
        if len(data) >= max_bytes or index >= len(starts) or starts[index] != place:
            return LogPiece(first, bytes(data), end)


def _file(path: Path, start: int) -> Path:
    return Path(f"{_base(path)}.{start}.log") if start else path


def _base(path: Path) -> str:
    return str(path).removesuffix(".log")
