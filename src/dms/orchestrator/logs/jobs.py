"""Logs fetched to files of this node in the background, once or for as long as they grow (``spec/orchestration.md`` 6.6).

One job per requester and allocation: whoever asks again while it runs is told of the same. Each writes below the folder
of its allocation, in a folder of its own, so that neither a name in a request nor another job decides what is written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from dms.executor.logs import LOST
from dms.orchestrator.errors import NothingToRead
from dms.orchestrator.logs.finding import LogShelf
from dms.orchestrator.messages import AllocationLogsReply
from dms.types.errors import Conflict, DMSError
from dms.types.ids import EnsembleID

DEFAULT_INTERVAL_S, MIN_INTERVAL_S, MAX_INTERVAL_S = 10.0, 1.0, 300.0
MAX_RUNNING, MAX_REMEMBERED = 64, 1000
MAX_JOB_BYTES = 1 << 30
"""Of both logs of one job together."""
PIECE_BYTES = 256 * 1024
STREAMS = ("stdout", "stderr")
MAX_FAILURES = 3
"""In a row, of a job that follows; the provider may be away for a while."""

RUNNING, COMPLETE, STOPPED, FAILED = "running", "complete", "stopped", "failed"


class ReadLog(Protocol):
    """A piece of a log, wherever it is."""

    def __call__(
        self, ensemble: EnsembleID, key: str, stream: str, offset: int, max_bytes: int
    ) -> Awaitable[AllocationLogsReply]:
        """From ``offset`` on.

        :raises DMSError: it is nowhere to be had.
        """
        ...


@dataclass(eq=False, slots=True)
class LogJob:
    """One fetch; ``interval_s`` is how often a followed log is looked at."""

    requester: str
    ensemble: EnsembleID
    key: str
    directory: Path
    follow: bool
    interval_s: float
    status: str = RUNNING
    error: str = ""
    bytes_written: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class LogJobs:
    """All of this node.

    :param read: where logs come from.
    :param start_soon: runs a job beside everything else.
    """

    def __init__(self, shelf: LogShelf, read: ReadLog, start_soon: Callable[..., object]) -> None:
        self._shelf, self._read, self._start_soon = shelf, read, start_soon
        self._jobs: dict[tuple[str, EnsembleID, str], LogJob] = {}

    def start(self, requester: str, ensemble: EnsembleID, key: str, *, follow: bool, interval_s: float) -> LogJob:
        """Begin, or find what was begun before and still runs; files of an earlier job are truncated.

        :raises Conflict: too many run.
        """
        known = self._jobs.get((requester, ensemble, key))
        if known is not None and known.status == RUNNING:
            return known
        if sum(job.status == RUNNING for job in self._jobs.values()) >= MAX_RUNNING:
            raise Conflict(f"{MAX_RUNNING} logs are being fetched already", hint="stop some, or try again later")
        mark = hashlib.sha256(requester.encode()).hexdigest()[:12]
        directory = self._shelf.folder(ensemble, key) / f"async-{mark}"
        interval_s = min(max(interval_s or DEFAULT_INTERVAL_S, MIN_INTERVAL_S), MAX_INTERVAL_S)
        job = LogJob(requester, ensemble, key, directory, follow, interval_s)
        self._jobs.pop((requester, ensemble, key), None)
        self._jobs[requester, ensemble, key] = job
        while len(self._jobs) > MAX_REMEMBERED:
            self._jobs.pop(next(name for name, old in self._jobs.items() if old.status != RUNNING))
        self._start_soon(self._run, job)
        return job

    def find(self, requester: str, ensemble: EnsembleID, key: str) -> LogJob:
        """The last job of this requester.

        :raises NothingToRead: there is none.
        """
        job = self._jobs.get((requester, ensemble, key))
        if job is None:
            raise NothingToRead(f"job not found: no logs of {key} are being fetched for you")
        return job

    def stop(self, requester: str, ensemble: EnsembleID, key: str) -> LogJob:
        """End a job; what was written stays. One that has ended stays as it is.

        :raises NothingToRead: there is none.
        """
        job = self.find(requester, ensemble, key)
        if job.status == RUNNING:
            job.status = STOPPED
            job.scope.cancel()
        return job

    def forget(self, ensemble: EnsembleID) -> None:
        """The deployment is deleted."""
        for name, job in tuple(self._jobs.items()):
            if job.ensemble == ensemble:
                self.stop(*name)
                del self._jobs[name]

    async def _run(self, job: LogJob) -> None:
        with job.scope:
            try:
                await self._fetch(job)
            except (DMSError, OSError) as exc:
                job.status, job.error = (
                    FAILED,
                    exc.message if isinstance(exc, DMSError) else f"cannot be written: {exc}",
                )
        if job.status == RUNNING:
            job.status = STOPPED  # this node ends

    async def _fetch(self, job: LogJob) -> None:
        job.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for stream in STREAMS:
            _write(job.directory / f"{stream}.log", b"", anew=True)
        failures = 0
        while True:
            try:
                is_over = await self._catch_up(job)
                failures = 0
            except DMSError:
                failures += 1
                if not job.follow or failures >= MAX_FAILURES:
                    raise
                is_over = False
            if is_over or not job.follow:
                break
            await trio.sleep(job.interval_s)
        if not job.bytes_written and not job.follow:
            job.status, job.error = FAILED, "the logs are empty"
            return
        job.status = COMPLETE

    async def _catch_up(self, job: LogJob) -> bool:
        """Write what there is; whether no more will come."""
        ends = []
        for stream in STREAMS:
            while True:
                offset = job.offsets.get(stream, 0)
                piece = await self._read(job.ensemble, job.key, stream, offset, PIECE_BYTES)
                gap = LOST if piece.offset > offset and offset else b""
                if piece.data:
                    _write(job.directory / f"{stream}.log", gap + piece.data)
                    job.bytes_written += len(piece.data)
                job.offsets[stream] = max(offset, piece.next_offset)
                if job.bytes_written > MAX_JOB_BYTES:
                    raise NothingToRead(f"the logs are longer than {MAX_JOB_BYTES} bytes: the rest is not fetched")
                if piece.eof or not piece.data:
                    ends.append(piece.eof)
                    break
        return all(ends)


def _write(path: Path, data: bytes, *, anew: bool = False) -> None:
    """Append; a link in the place of the file is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if anew else os.O_APPEND)
    descriptor = os.open(path, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
