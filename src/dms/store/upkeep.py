"""What the database needs from time to time: that old rows go, that the file shrinks, that damage is noticed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from dms.observe import get_logger
from dms.store.database import Store
from dms.store.errors import StoreCorrupt
from dms.store.examine import examine
from dms.store.retention import Retention, prune

INTERVAL_S = 3600.0
FIRST_S = 300.0
"""Not while a node begins."""
CHECK_INTERVAL_S = 24 * 3600.0
TOLD = 5
"""Problems in one line of the log."""

log = get_logger(__name__)


class Upkeep:
    """Looks after one database; :meth:`run` is to be called every :data:`INTERVAL_S`.

    :param now_s: seconds on a clock that never jumps.
    """

    def __init__(self, store: Store, retention: Retention, now_s: Callable[[], float] = trio.current_time) -> None:
        self._store = store
        self._retention = retention
        self._now_s = now_s
        self._checked_s: float | None = None

    def follow(self, retention: Retention) -> None:
        """Keep things that long from now on."""
        self._retention = retention

    async def run(self) -> None:
        """Prune, give space back, and once a day look for damage. Of a server, which cares for its own files: prune.

        :raises StoreError: the database failed.
        """
        removed = await prune(self._store, self._retention)
        if removed:
            log.info("database_pruned", removed=removed)
        if self._store.path is None:
            return
        await self._store.compact()
        if self._checked_s is None or self._now_s() - self._checked_s >= CHECK_INTERVAL_S:
            self._checked_s = self._now_s()
            await self._look_for_damage(self._store.path)

    async def _look_for_damage(self, path: Path) -> None:
        # on a connection of its own: ours would look at what it remembers, and keep others waiting
        found = await trio.to_thread.run_sync(partial(examine, path, is_thorough=False))
        if found.problems:
            log.error(
                "database_damaged", database=str(path), problems=found.problems[:TOLD], hint=StoreCorrupt.default_hint
            )
