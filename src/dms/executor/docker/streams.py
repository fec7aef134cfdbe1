"""The two outputs of a container: taking apart the stream in which an engine mixes them, and writing the log files.

While this process lives it reads the outputs themselves, from before the start to the end. When that was interrupted, by
a restart of ours or of the engine's, the rest comes from the engine's own record. A record is told from its beginning,
so what is in the file already is skipped, unless the engine has meanwhile dropped the beginning.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from dms.executor.detached import LogFile, log_parts
from dms.executor.logs import LOST, STDERR_LOG, STDOUT_LOG

STREAMS = {1: STDOUT_LOG, 2: STDERR_LOG}
"""The numbers that engines give to the two outputs."""
COMPARED_BYTES = 4096
"""Of the beginning of a log, to see whether the engine still has it."""


class FrameDecoder:
    """Takes apart the stream in which an engine mixes two outputs: an 8-byte header (which, length), then the bytes.

    Long frames are handed on in pieces, so that nothing is collected.
    """

    def __init__(self) -> None:
        self._header = b""
        self._stream, self._left = 1, 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces that are known now: (1 for standard output or 2 for errors, bytes)."""
        position, end = 0, len(data)
        while position < end:
            if self._left:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                yield self._stream, piece
                continue
            missing = 8 - len(self._header)
            self._header += data[position : position + missing]
            position += missing
            if len(self._header) == 8:
                stream, self._left = struct.unpack(">BxxxL", self._header)
                self._stream, self._header = 2 if stream == 2 else 1, b""


class BeginningLost(Exception):
    """The engine's record does not begin where the file begins."""


class StreamLog:
    """One log file of a container, which is told by an engine, perhaps more than once."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path, self._limit_bytes = path, limit_bytes
        self._file: LogFile | None = None
        self._told: int | None = None
        """Bytes that were told and written, also those that were cut; ``None``: by another process."""
        self._skip, self._expected = 0, b""
        self._is_lost = False
        """The engine's record does not begin where the file does."""

    def begin(self) -> None:
        """Open for a container that has said nothing yet."""
        self.close()
        self._file = LogFile(str(self._path), self._limit_bytes, anew=True)
        self._told, self._skip, self._expected = 0, 0, b""

    def resume(self) -> float | None:
        """Open for a record that is told anew. Returns the moment (UNIX seconds) from which on it is wanted; ``None``
        means from its beginning."""
        self.close()
        self._file = LogFile(str(self._path), self._limit_bytes, anew=False)
        parts = log_parts(str(self._path))
        if self._told is None:
            self._is_lost = bool(parts)  # how much was told cannot be known any more
            self._told = self._file.written
        if self._is_lost:
            return self._last_s()
        with self._path.open("rb") as file:
            self._expected = file.read(min(COMPARED_BYTES, self._limit_bytes, self._told))
        self._skip = self._told
        return None

    def lose(self) -> None:
        """After :class:`BeginningLost`: from now on it is continued with what came after the last that is here."""
        self._is_lost = True
        self._skip, self._expected = 0, b""
        last_s = self._last_s()
        self._write(LOST)
        for path in self._files():
            os.utime(path, (last_s, last_s))

    def write(self, data: bytes) -> None:
        """Append what is new.

        :raises BeginningLost: what is told is not what was told before.
        """
        if self._skip:
            data = self._skipped(data)
        if data:
            self._write(data)

    def close(self) -> None:
        """Nothing more comes for now."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _skipped(self, data: bytes) -> bytes:
        count = min(self._skip, len(data))
        if self._expected:
            compared = data[: min(count, len(self._expected))]
            if not self._expected.startswith(compared):
                raise BeginningLost
            self._expected = self._expected[len(compared) :]
        self._skip -= count
        return data[count:]

    def _files(self) -> list[Path]:
        return list(self._path.parent.glob(f"{self._path.stem}*.log"))

    def _last_s(self) -> float:
        """When something was written last, UNIX seconds."""
        return max((path.stat().st_mtime for path in self._files()), default=0.0)

    def _write(self, data: bytes) -> None:
        if self._file is not None and self._told is not None:
            self._file.write(data)
            self._told += len(data)
