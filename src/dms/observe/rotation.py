"""A log file that is renewed by size; old ones are compressed, and dropped by count and age.

A disk that is full or gone costs entries, never the program: what could not be written is counted, said on the console once
a minute, and the file is tried again every few seconds.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

S_PER_DAY = 86_400
RETRY_S = 5.0
"""How long a file that could not be written is left alone."""
COMPLAIN_S = 60.0


class RotatingFile(logging.Handler):
    """``log``, ``log.1.gz``, ``log.2.gz``, …; only the owner may read them.

    Compressing happens in a thread of its own: it takes seconds, and the writer is the event loop. Nothing is renewed
    meanwhile, so there is one such thread at most.

    :param encode: a record as the bytes of its line.
    :param complaints: where to say that the file cannot be written; standard error, unless given.
    :raises OSError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_size_mb: float,
        max_backups: int,
        max_age_days: int,
        encode: Callable[[logging.LogRecord], bytes] | None = None,
        complaints: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        super().__init__()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self.lost = 0
        """Entries that could not be written since the start."""
        self._max_bytes = int(max_size_mb * 1_000_000)
        self._max_backups, self._max_age_days = max_backups, max_age_days
        self._encode = encode or (lambda record: f"{record.getMessage()}\n".encode("utf-8", "backslashreplace"))
        self._complaints = complaints
        self._clock, self._write = clock, write
        self._compressing: threading.Thread | None = None
        self._handle, self._size = -1, 0
        self._retry_at, self._complain_at = float("-inf"), float("-inf")
        self._lost_now, self._is_torn = 0, False
        self._open()
        self._drop_old()
        if self._aside.exists():  # an earlier life ended before it was compressed
            self._shift()
            self._compress()

    @property
    def losing(self) -> int:
        """Entries that were lost since the file was last written; 0: it is written."""
        return self._lost_now

    @property
    def _aside(self) -> Path:
        return self.path.with_name(self.path.name + ".rolled")

    def emit(self, record: logging.LogRecord) -> None:
        """Append the entry; a failure is counted and said, never raised."""
        try:
            line = self._encode(record)
        except Exception:  # noqa: BLE001 (a field that cannot be written must not end who logs it)
            self.handleError(record)
            return
        now = self._clock()
        if now < self._retry_at:
            self._lose()
            return
        try:
            self._append(line)
        except OSError as exc:
            self._retry_at = now + RETRY_S
            self._lose()
            self._complain(now, f"log_file_not_written: {self.path}: {exc.strerror or exc}")

    def close(self) -> None:
        """Close the file, once the last one is compressed."""
        if self._compressing is not None:
            self._compressing.join()
            self._compressing = None
        self._close()
        super().close()

    def _append(self, line: bytes) -> None:
        if self._handle < 0:
            self._open()
        if self._max_bytes > 0 and self._size and self._size + len(line) > self._max_bytes:
            self._roll()
        if self._is_torn:  # half a line stands there
            line = b"\n" + line
        written = self._write(self._handle, line)
        self._size += written
        self._is_torn = written < len(line)
        while written < len(line):
            more = self._write(self._handle, line[written:])
            self._size, written = self._size + more, written + more
        self._is_torn = False
        if self._lost_now:
            lost, self._lost_now = self._lost_now, 0
            self._say(f"log_file_written_again: {self.path}: {lost} entries were lost")

    def _lose(self) -> None:
        self.lost += 1
        self._lost_now += 1

    def _complain(self, now: float, text: str) -> None:
        if now >= self._complain_at:
            self._complain_at = now + COMPLAIN_S
            self._say(text)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=self._complaints or sys.stderr, flush=True)

    # files ---------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._handle = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._handle).st_size

    def _close(self) -> None:
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            with contextlib.suppress(OSError):
                os.close(handle)

    def _roll(self) -> None:
        """Begin a new file."""
        if self._compressing is not None:
            if self._compressing.is_alive() and self._size < 2 * self._max_bytes:
                return  # a file somewhat too large is better than an event loop that waits
            self._compressing.join()
        self._close()
        if self._max_backups == 0:
            self.path.unlink(missing_ok=True)
        else:
            self._shift()
            self.path.replace(self._aside)
            self._compress()
        self._open()
        self._drop_old()

    def _shift(self) -> None:
        """``log.1.gz`` becomes ``log.2.gz``, and so on; the last one is dropped."""
        for number in range(self._max_backups, 0, -1):
            source = self._numbered(number)
            if not source.exists():
                continue
            if number == self._max_backups:
                source.unlink(missing_ok=True)
            else:
                source.replace(self._numbered(number + 1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}.gz")

    def _compress(self) -> None:
        if self._max_backups == 0:
            self._aside.unlink(missing_ok=True)
            return
        target = (self._aside, self._numbered(1))
        self._compressing = threading.Thread(target=_compress, args=target, daemon=True)
        self._compressing.start()

    def _drop_old(self) -> None:
        if self._max_age_days <= 0:
            return
        oldest = time.time() - self._max_age_days * S_PER_DAY
        for path in self.path.parent.glob(f"{self.path.name}.*.gz"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _compress(source: Path, dest: Path) -> None:
    partial = Path(f"{dest}.partial")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with (
            source.open("rb") as plain,
            os.fdopen(handle, "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb") as packed,
        ):
            shutil.copyfileobj(plain, packed)
        partial.replace(dest)
        source.unlink()
    except OSError:
        partial.unlink(missing_ok=True)  # the plain file stays; a full disk must not stop the node
