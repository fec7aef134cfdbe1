"""The logs of ended allocations on the orchestrator's own node: ``<work_dir>/deployments/<id>/<node>.<allocation>/``.

Copied when an allocation ends, so that they outlive the provider (``spec/orchestration.md`` 2.4, 6.6). What an update took
away is in ``.versions/<number>/`` below the deployment's: the end of each log, of so many versions as are remembered.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import trio

from dms.executor.logs import offset_at, read_log
from dms.orchestrator.errors import NothingToRead
from dms.orchestrator.lifecycle.state import AllocationRecord
from dms.orchestrator.messages import AllocationLogsReply
from dms.orchestrator.updating.state import MAX_VERSIONS
from dms.types.ids import EnsembleID

COMPLETE = ".complete"
"""Lies beside logs that were copied after the end, and says of which run they are: nothing will be added to them."""
MAX_PIECE_BYTES = 512 * 1024
LARGE_PIECE_BYTES = 4 * 1024 * 1024
"""Of a log, in one message: to whoever takes a mebibyte, and to nodes of this program."""
MAX_COPY_BYTES = 96 * 1024 * 1024
"""Of one log; executors keep less (:mod:`dms.executor.detached`)."""
VERSIONS = ".versions"
"""The folder with those of earlier versions of the ensemble."""
MAX_KEPT_BYTES = 1024 * 1024
"""Of the end of each log of an earlier version."""
MAX_OFFSET = 1 << 62
MAX_GAPS = 16
"""In one copy. While it is made, what is read next may be dropped by the provider now and then."""


@dataclass(frozen=True, slots=True)
class LogShelf:
    """Where logs are kept; made with mode 0700."""

    directory: Path

    def folder(self, ensemble: EnsembleID, key: str) -> Path:
        """The folder of one allocation.

        :raises NothingToRead: names that would lead out of the directory.
        """
        for name in (ensemble, key):
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise NothingToRead(f"there are no logs of {name!r}")
        return self.directory / ensemble / key

    def is_complete(self, ensemble: EnsembleID, record: AllocationRecord) -> bool:
        """Whether the logs here are all that there will ever be. Those of an earlier attempt, elsewhere, do not count."""
        try:
            said = (self.folder(ensemble, record.key) / COMPLETE).read_text()
        except FileNotFoundError:
            return False
        run = _run_of(record)
        return said in ("", run, run.rpartition(" ")[0])  # older marks say less, or nothing

    async def mark_complete(self, ensemble: EnsembleID, record: AllocationRecord) -> None:
        """Note that they are; on disk when this returns, as the provider may forget them from then on."""
        folder = self.folder(ensemble, record.key)
        await trio.to_thread.run_sync(_mark, folder, self.directory, _run_of(record))

    async def read(
        self, ensemble: EnsembleID, key: str, stream: str, offset: int, max_bytes: int
    ) -> AllocationLogsReply:
        """A piece of a complete log; places in it are those on the provider."""
        path = self.folder(ensemble, key) / f"{stream}.log"
        return await trio.to_thread.run_sync(lambda: read_piece(path, offset, max_bytes, is_over=True))

    def of_version(self, ensemble: EnsembleID, number: int) -> tuple[LogShelf, EnsembleID]:
        """Where the logs of what an update took away are kept, and the name of that version there."""
        return LogShelf(self.folder(ensemble, VERSIONS)), EnsembleID(str(number))

    async def kept(self, ensemble: EnsembleID, number: int) -> tuple[str, ...]:
        """The allocations of an earlier version of which there are logs; ``<node>.<allocation>``."""
        shelf, version = self.of_version(ensemble, number)
        return await trio.to_thread.run_sync(_names_in, shelf.directory / version)

    async def forget_versions(self, ensemble: EnsembleID) -> None:
        """Drop the logs of the oldest versions."""
        shelf = self.folder(ensemble, VERSIONS)
        numbers = sorted(int(name) for name in await trio.to_thread.run_sync(_names_in, shelf) if name.isdecimal())
        for number in numbers[:-MAX_VERSIONS]:
            await trio.to_thread.run_sync(shutil.rmtree, shelf / str(number), True)

    async def remove(self, ensemble: EnsembleID) -> None:
        """Drop everything of one deployment."""
        await trio.to_thread.run_sync(shutil.rmtree, self.directory / ensemble, True)


class LogCopy:
    """A log that is copied piece by piece, in the form in which :mod:`dms.executor.logs` reads it: whatever the provider
    did not keep begins another file. ``directory`` gets the files at :meth:`finish`, whole or not at all."""

    def __init__(self, directory: Path, stream: str) -> None:
        self._directory, self._stream = directory, stream
        self._starts: list[int] = []
        self.offset, self.size = 0, 0
        """Where the next piece begins, and how many bytes are here."""

    def add(self, piece: AllocationLogsReply) -> bool:
        """The next piece; its data may begin later than the last one ended. Whether more may come."""
        start = min(max(piece.offset, self.offset), MAX_OFFSET) if self._starts else 0
        is_gap = start > self.offset
        if is_gap and len(self._starts) > MAX_GAPS:
            return False
        if is_gap or not self._starts:
            self._starts.append(start)
        with self._partial(self._starts[-1]).open("wb" if is_gap or not self.size else "ab") as file:
            file.write(piece.data)
        self.offset, self.size = start + len(piece.data), self.size + len(piece.data)
        return bool(piece.data) and self.size < MAX_COPY_BYTES

    def finish(self) -> None:
        """All is here."""
        for old in self._directory.glob(f"{self._stream}.*log"):
            if old.name not in {self._name(start) for start in self._starts}:
                old.unlink()
        for start in self._starts:
            partial = self._partial(start)
            partial.chmod(0o600)
            _sync(partial)
            partial.replace(self._directory / self._name(start))
        _sync(self._directory)

    def _name(self, start: int) -> str:
        return f"{self._stream}.{start}.log" if start else f"{self._stream}.log"

    def _partial(self, start: int) -> Path:
        return self._directory / f".{self._name(start)}.partial"


def _run_of(record: AllocationRecord) -> str:
    """What tells the attempts to run an allocation apart: on which actor, which execution of it, and when it ended, as
    an attempt that is made again on the same machine has the same actor and begins with the same number."""
    return f"{record.handle.id.pub if record.handle else ''} {record.execution} {record.ended_ns}"


def _mark(folder: Path, top: Path, text: str) -> None:
    partial = folder / f"{COMPLETE}.partial"
    partial.write_text(text)
    partial.chmod(0o600)
    _sync(partial)
    partial.replace(folder / COMPLETE)
    for directory in (folder, folder.parent, top):
        _sync(directory)


def _names_in(directory: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in directory.iterdir()))
    except FileNotFoundError:
        return ()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def piece_bytes(limit_bytes: int) -> int:
    """How much of a log goes into one message, where messages may have so many bytes: in JSON it takes a third more."""
    return LARGE_PIECE_BYTES if limit_bytes >= 2 * LARGE_PIECE_BYTES else MAX_PIECE_BYTES


def read_piece(
    path: Path, offset: int, max_bytes: int, *, is_over: bool, since_ms: int = 0, most: int = MAX_PIECE_BYTES
) -> AllocationLogsReply:
    """Up to ``max_bytes`` (at most ``most``) of a log from ``offset``, as :func:`~dms.executor.logs.read_log` has it.

    ``is_over``: nothing will be added to it, so that its end is the end.
    """
    if since_ms > 0:
        with contextlib.suppress(FileNotFoundError):
            offset = max(read_log(path, offset, 0).offset, offset_at(path, since_ms / 1000))
    piece = read_log(path, offset, min(max_bytes, most))
    end = piece.offset + len(piece.data)
    return AllocationLogsReply(
        offset=piece.offset, next_offset=end, total_size=piece.end, eof=is_over and end >= piece.end, data=piece.data
    )
