"""How much disk a workload's volumes take while it writes to them: counted as the file system does, at a bounded cost.

What is written into a hole costs nothing and counts nothing; a file with two names counts once. A file that has no name
any more cannot be seen here: it is gone when the workload is. Nothing is followed, and what changes or goes away while it
is counted is no error.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from dms.storage.errors import TooLarge
from dms.storage.tree import OPEN_DIRECTORY

BLOCK_BYTES = 512
"""What ``st_blocks`` counts in, whatever the file system's own blocks are."""
MAX_ENTRIES = 1_000_000
"""Files and directories of one workload: what a count takes is bounded, and so are the inodes that it may use up."""
MAX_NESTING = 200
"""Each level is an open descriptor while it is counted."""


def room_taken(roots: Iterable[Path], limit_bytes: int, *, max_entries: int = MAX_ENTRIES) -> int:
    """Bytes on disk below ``roots`` together. Synchronous: call it in a worker thread.

    :raises TooLarge: more than ``limit_bytes``, or more entries, or deeper than can be counted; at once, without counting
        the rest.
    """
    count = _Count(limit_bytes, max_entries)
    for root in roots:
        try:
            descriptor = os.open(root, OPEN_DIRECTORY)
        except OSError:
            continue  # it is gone: nothing is taken
        try:
            count.below(descriptor, os.fstat(descriptor).st_dev, 0)
        finally:
            os.close(descriptor)
    return count.taken_bytes


class _Count:
    def __init__(self, limit_bytes: int, max_entries: int) -> None:
        self.taken_bytes = 0
        self._limit_bytes, self._left = limit_bytes, max_entries
        self._max_entries = max_entries
        self._seen: set[tuple[int, int]] = set()

    def below(self, directory: int, device: int, depth: int) -> None:
        if depth > MAX_NESTING:
            raise TooLarge(f"its directories are nested deeper than {MAX_NESTING} levels")
        try:
            entries = os.scandir(directory)
        except OSError:
            return  # closed to us, as one of another user's is
        with entries:
            for entry in entries:
                self._add(directory, entry, device, depth)

    def _add(self, directory: int, entry: os.DirEntry[str], device: int, depth: int) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return
        self._left -= 1
        if self._left < 0:
            raise TooLarge(f"it made more than {self._max_entries} files")
        is_directory = stat.S_ISDIR(found.st_mode)
        if found.st_nlink > 1 and not is_directory:
            if (found.st_dev, found.st_ino) in self._seen:
                return
            self._seen.add((found.st_dev, found.st_ino))
        self.taken_bytes += found.st_blocks * BLOCK_BYTES
        if self.taken_bytes > self._limit_bytes:
            raise TooLarge(f"it takes more than its {self._limit_bytes} bytes of disk")
        if not is_directory or found.st_dev != device:  # what is mounted there is not in this room
            return
        try:
            below = os.open(entry.name, OPEN_DIRECTORY, dir_fd=directory)
        except OSError:
            return
        try:
            self.below(below, device, depth + 1)
        finally:
            os.close(below)
