"""The two outputs of a container: taking apart the stream in which an engine mixes them, and writing the log files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dms.executor.detached import LogFile
from dms.executor.logs import STDERR_LOG, STDOUT_LOG


class FrameDecoder:
    """Takes apart the stream in which an engine mixes two outputs: an 8-byte header (which, length), then the bytes.

    Long frames are handed on in pieces, so that nothing is collected.
    """

    def __init__(self) -> None:
        self._header = b""
        self._stream, self._left = 1, 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces that are known now: (1 for standard output or 2 for errors, bytes)."""
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                yield self._stream, piece
                continue
            missing = 8 - len(self._header)
            self._header, data = self._header + data[:missing], data[missing:]
            if len(self._header) == 8:
                stream, self._left = struct.unpack(">BxxxL", self._header)
                self._stream, self._header = 2 if stream == 2 else 1, b""


class LogFiles:
    """The two logs of one container.

    An engine always tells a log from its beginning; what is in the files already is skipped.
    """

    def __init__(self, results_dir: Path, limit_bytes: int) -> None:
        self._paths = {1: results_dir / STDOUT_LOG, 2: results_dir / STDERR_LOG}
        self._limit_bytes = limit_bytes
        self._files: dict[int, LogFile] = {}
        self._skip, self._told = {1: 0, 2: 0}, {1: 0, 2: 0}

    @contextmanager
    def opened(self, *, anew: bool) -> Iterator[None]:
        """While the log is read; ``anew`` begins with empty files, as another process may have written them."""
        with ExitStack() as stack:
            for stream, path in self._paths.items():
                file = LogFile(str(path), self._limit_bytes, anew=anew)
                stack.callback(file.close)
                self._files[stream] = file
                self._told[stream] = 0 if anew else max(self._told[stream], file.written)
                self._skip[stream] = self._told[stream]
            yield

    def write(self, stream: int, data: bytes) -> None:
        """Append what is new."""
        skipped = min(self._skip[stream], len(data))
        self._skip[stream] -= skipped
        if len(data) > skipped:
            self._files[stream].write(data[skipped:])
            self._told[stream] += len(data) - skipped
