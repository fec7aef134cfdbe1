"""The replay window on disk, so that a restart of the node does not open it again.

One file of fixed records behind a header that holds the secret of the window's hashes, mode 0600. An entry is written
before its message is handled, with a plain ``write``: it survives the end of the process in any manner. What a loss of
power takes with it are the last seconds, and most messages have expired before a machine is up again; those that live
longer than :data:`LONG_LIVED_NS` are handled only once they are fsynced. A record that is cut off is ignored.

The file grows until it holds mostly what has expired; then it is written anew beside itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from dms.actor.replay import KEY_BYTES, MAX_REMEMBERED, Entry, ReplayWindow
from dms.observe import LimitedLogger, get_logger

MAGIC: Final = b"nunet-replay-1\n\x00"
LONG_LIVED_NS: Final = 60 * 10**9
COMPACT_INTERVAL_S: Final = 60.0
MIN_RECORDS: Final = 8192
"""A file of fewer records is never worth writing anew."""
MAX_RECORDS: Final = 16 * MAX_REMEMBERED
"""What is read of a file at the start; at the highest rates it is compacted long before."""
_RECORD = struct.Struct("<QQQ")
_HEADER_BYTES = len(MAGIC) + KEY_BYTES

log = get_logger(__name__)
failures = LimitedLogger(log)


class ReplayFile:
    """The record of one window; made by :func:`open_window`."""

    def __init__(self, path: Path, key: bytes) -> None:
        self.window = ReplayWindow(key=key, record=self)
        self._path = path
        self._key = key
        self._fd = -1
        self._records = 0
        self._synced = 0
        self._late: list[bytes] | None = None
        self._syncing = trio.Lock()

    def append(self, entry: Entry) -> None:
        """Write one entry; a disk that fails is told and does not stop the node."""
        record = _RECORD.pack(*entry)
        self._records += 1
        if self._late is not None:
            self._late.append(record)
        try:
            _append(self._fd, record)
        except OSError as exc:
            failures.warning("replay", "replay_not_recorded", file=str(self._path), reason=str(exc))

    async def sync(self) -> None:
        """Have on disk what was appended so far; who comes while others wait shares one fsync with them."""
        wanted = self._records
        async with self._syncing:
            if self._synced >= wanted:
                return
            reached = self._records
            try:
                await trio.to_thread.run_sync(os.fsync, self._fd)
            except (OSError, ValueError) as exc:  # the latter when it was closed
                failures.warning("replay", "replay_not_synced", file=str(self._path), reason=str(exc))
            self._synced = reached

    async def keep_compact(self) -> None:
        """Write the file anew whenever most of it has expired, until cancelled."""
        while True:
            await trio.sleep(COMPACT_INTERVAL_S)
            if self._records > max(MIN_RECORDS, 2 * len(self.window)):
                try:
                    await self.compact()
                except OSError as exc:
                    log.error("replay_not_compacted", file=str(self._path), reason=str(exc))

    async def compact(self) -> None:
        """Keep only what has not expired; nothing that arrives meanwhile is lost.

        :raises OSError: the disk is full, …; the old file is as it was.
        """
        async with self._syncing:
            entries = list(self.window.entries())
            self._late = []
            temporary = self._path.with_name(f".{self._path.name}.tmp")
            fd = -1
            try:
                fd = await trio.to_thread.run_sync(_write, temporary, self._key, entries)
                late = self._late
                _append(fd, b"".join(late))
                temporary.replace(self._path)
            except BaseException:
                if fd >= 0:
                    os.close(fd)
                raise
            finally:
                self._late = None
            self._swap(fd, len(entries) + len(late))
            # before anybody's sync: what is synced in a file that a loss of power replaces by the old one is lost
            await trio.to_thread.run_sync(_sync_directory, self._path.parent)

    def close(self) -> None:
        """Write no more."""
        self._swap(-1, 0)

    def _swap(self, fd: int, records: int) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd, self._records, self._synced = fd, records, 0


def open_window(path: Path, *, clock_ns: Callable[[], int], elapsed_ns: int) -> ReplayFile:
    """The window of an earlier life, or a new one.

    :param elapsed_ns: now, by the clock that never jumps.
    :raises OSError: the file cannot be written.
    """
    key, entries = _read(path)
    file = ReplayFile(path, key or secrets.token_bytes(KEY_BYTES))
    file.window.restore(entries, clock_ns(), elapsed_ns)
    live = list(file.window.entries())
    temporary = path.with_name(f".{path.name}.tmp")
    fd = _write(temporary, file._key, live)  # noqa: SLF001  its other half
    temporary.replace(path)
    _sync_directory(path.parent)
    file._swap(fd, len(live))  # noqa: SLF001
    return file


def _append(fd: int, data: bytes) -> None:
    """All of it or nothing: behind half a record every later one would be misread.

    :raises OSError: the disk is full, …
    """
    written = os.write(fd, data)
    if written < len(data):
        os.ftruncate(fd, os.fstat(fd).st_size - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(path: Path, key: bytes, entries: list[Entry]) -> int:
    """Write a file and have it on disk; it stays open for appending."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(MAGIC + key + b"".join(_RECORD.pack(*entry) for entry in entries))
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _read(path: Path) -> tuple[bytes, list[Entry]]:
    try:
        with path.open("rb") as stream:
            data = stream.read(_HEADER_BYTES + MAX_RECORDS * _RECORD.size)
    except FileNotFoundError:
        return b"", []
    if len(data) < _HEADER_BYTES or not data.startswith(MAGIC):
        log.warning("replay_file_damaged", file=str(path), hint="messages of the last minutes could be used again")
        return b"", []
    body = data[_HEADER_BYTES:]
    whole = len(body) - len(body) % _RECORD.size
    return data[len(MAGIC) : _HEADER_BYTES], [Entry(*fields) for fields in _RECORD.iter_unpack(body[:whole])]
