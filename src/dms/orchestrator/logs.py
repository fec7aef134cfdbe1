"""The logs of ended allocations on the orchestrator's own node: ``<work_dir>/deployments/<id>/<node>.<allocation>/``.

Copied when an allocation ends, so that they outlive the provider (``spec/orchestration.md`` 2.4, 6.6).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import trio

from dms.orchestrator.messages import AllocationLogsReply
from dms.types.ids import EnsembleID

COMPLETE = ".complete"
"""Lies beside logs that were copied after the end: nothing will be added to them."""
MAX_PIECE_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class LogShelf:
    """Where logs are kept; made with mode 0700."""

    directory: Path

    def folder(self, ensemble: EnsembleID, key: str) -> Path:
        """The folder of one allocation."""
        return self.directory / ensemble / key

    def is_complete(self, ensemble: EnsembleID, key: str) -> bool:
        """Whether the logs here are all that there will ever be."""
        return (self.folder(ensemble, key) / COMPLETE).exists()

    def mark_complete(self, ensemble: EnsembleID, key: str) -> None:
        """Note that they are."""
        (self.folder(ensemble, key) / COMPLETE).touch(mode=0o600)

    async def read(
        self, ensemble: EnsembleID, key: str, stream: str, offset: int, max_bytes: int
    ) -> AllocationLogsReply:
        """A piece of a complete log."""
        path = self.folder(ensemble, key) / f"{stream}.log"
        return await trio.to_thread.run_sync(read_piece, path, offset, max_bytes, True)

    async def remove(self, ensemble: EnsembleID) -> None:
        """Drop everything of one deployment."""
        await trio.to_thread.run_sync(shutil.rmtree, self.directory / ensemble, True)


def read_piece(path: Path, offset: int, max_bytes: int, is_over: bool) -> AllocationLogsReply:  # noqa: FBT001  for threads
    """Up to ``max_bytes`` (at most 512 KiB) of a file from ``offset``; an absent file is empty.

    ``is_over``: nothing will be added to it, so that its end is the end.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = min(max(0, offset), size)
            file.seek(start)
            data = file.read(max(0, min(max_bytes, MAX_PIECE_BYTES)))
    except FileNotFoundError:
        return AllocationLogsReply(offset=0, next_offset=0, eof=is_over)
    end = start + len(data)
    return AllocationLogsReply(offset=start, next_offset=end, total_size=size, eof=is_over and end >= size, data=data)
