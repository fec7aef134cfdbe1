"""The private directory of an allocation: logs while it lives, and for a while after (``spec/orchestration.md`` 6.2)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dms.allocation.errors import HookFailed
from dms.allocation.hooks.hook import Hook

if TYPE_CHECKING:
    from dms.allocation.allocation import Allocation

PERSIST_LOGS_S = 1800.0
"""How long logs outlive their workload on the provider."""


class ResultsDirHook(Hook):
    """Makes ``<jobs>/<allocation id>`` with mode 0700 and removes it in the end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def prerun(self, allocation: Allocation) -> None:
        """Make it."""
        try:
            await trio.to_thread.run_sync(_make_private, self._path)
        except OSError as exc:
            raise HookFailed(f"cannot make {self._path}: {exc.strerror}") from None

    async def destroy(self, allocation: Allocation) -> None:
        """Remove it."""
        await trio.to_thread.run_sync(remove_tree, self._path)


def remove_tree(path: Path) -> None:
    """Remove a directory and everything in it; absent is fine."""
    shutil.rmtree(path, ignore_errors=True)


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
