"""What the database needs from time to time: that old rows go, that the file shrinks, that damage is noticed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from dms.observe import get_logger
from dms.store.database import Store, now_ns
from dms.store.errors import StoreCorrupt
from dms.store.examine import examine
from dms.store.retention import Retention, prune

INTERVAL_S = 3600.0
FIRST_S = 300.0
"""Not while a node begins."""
CHECK_INTERVAL_S = 24 * 3600.0
MAX_LEAP_S = 3600.0
"""That the wall clock may be set by without anybody asking whether it is right."""
NS_PER_S = 10**9
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
        self._lead_s: float | None = None

    def follow(self, retention: Retention) -> None:
        """Keep things that long from now on."""
        self._retention = retention

    async def run(self) -> None:
        """Prune unless the clock leapt, give space back, and once a day look for damage. Of a server, which cares for its own
        files: prune.

        :raises StoreError: the database failed.
        """
        if await self._is_clock_steady():
            removed = await prune(self._store, self._retention)
            if removed:
                log.info("database_pruned", removed=removed)
        if self._store.path is None:
            return
        await self._store.compact()
        if self._checked_s is None or self._now_s() - self._checked_s >= CHECK_INTERVAL_S:
            self._checked_s = self._now_s()
            await self._look_for_damage(self._store.path)

    async def _is_clock_steady(self) -> bool:
        """Whether the wall clock went on like the other one since the last time. After a leap, which may be a mistake that
        somebody is about to mend, nothing is too old until the next time.
        """
        before = self._lead_s
        self._lead_s = await self._store.run(now_ns) / NS_PER_S - self._now_s()
        if before is None or abs(self._lead_s - before) <= MAX_LEAP_S:
            return True
        log.warning("database_not_pruned", reason=f"the clock leapt by {self._lead_s - before:+.0f} s")
        return False

    async def _look_for_damage(self, path: Path) -> None:
        # on a connection of its own: ours would look at what it remembers, and keep others waiting
        found = await trio.to_thread.run_sync(partial(examine, path, is_thorough=False))
        if found.problems:
            log.error(
                "database_damaged", database=str(path), problems=found.problems[:TOLD], hint=StoreCorrupt.default_hint
            )
