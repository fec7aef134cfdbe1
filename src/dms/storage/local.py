"""Directories of this machine that its owner opens to jobs (``spec/execution.md`` 5, type ``local``).

A path counts by where it leads, all links resolved, and must lie below an opened directory; it is then opened once
more component by component without following any link. Who swaps a component in between gets an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dms.storage.errors import PathNotGranted

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Opened:
    """A directory that may be mounted; the descriptor is open while the block runs."""

    path: Path
    descriptor: int


class LocalDirectories:
    """``roots`` are open to jobs with all below them; ``closed`` never are, nor what contains them."""

    def __init__(self, roots: Iterable[Path], *, closed: Iterable[Path] = ()) -> None:
        self._roots = tuple(Path(os.path.realpath(root)) for root in roots)
        self._closed = tuple(Path(os.path.realpath(path)) for path in closed)

    def check(self, source: str) -> None:
        """Whether :meth:`opened` would succeed now.

        :raises PathNotGranted: it would not.
        """
        with self.opened(source):
            pass

    @contextmanager
    def opened(self, source: str) -> Iterator[Opened]:
        """Open it.

        :raises PathNotGranted: it lies elsewhere, is no directory, or changed while it was looked at. The message
            does not tell which, as that would tell what is on this machine.
        """
        if not source.startswith("/") or "\0" in source:
            raise PathNotGranted(f"the path {source[:200]!r} is not absolute")
        refused = PathNotGranted(f"the path {source[:200]!r} is not open to jobs on this machine")
        path = Path(os.path.realpath(source))
        root = next((root for root in self._roots if path.is_relative_to(root)), None)
        if root is None or any(path.is_relative_to(each) or each.is_relative_to(path) for each in self._closed):
            raise refused
        try:
            descriptor = _walk(root, path.relative_to(root).parts)
        except OSError:
            raise refused from None
        try:
            yield Opened(path, descriptor)
        finally:
            os.close(descriptor)


def _walk(root: Path, parts: tuple[str, ...]) -> int:
    current = os.open(root, _STEP)
    for part in parts:
        try:
            below = os.open(part, _STEP, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current
