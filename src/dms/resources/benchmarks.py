"""The benchmarks of this machine, kept: the newest counts, the ones before show whether it got slower."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from dms.resources.benchmark import Benchmark
from dms.store import EntityRepository, Query, RecordNotFound, Store
from dms.store.schema import benchmarks


class Benchmarks:
    """Measures with ``measure`` and keeps what it finds; one at a time, as two would measure each other."""

    def __init__(self, store: Store, measure: Callable[[], Awaitable[Benchmark]]) -> None:
        self._records = EntityRepository(store, benchmarks, Benchmark)
        self._measure = measure
        self._lock = trio.Lock()

    async def run(self) -> Benchmark:
        """Measure now, and keep it; on the disk when this returns."""
        async with self._lock:
            return (await self._records.save(await self._measure())).value

    async def latest(self) -> Benchmark | None:
        """The newest; ``None``: never measured."""
        try:
            return (await self._records.get()).value
        except RecordNotFound:
            return None

    async def history(self, limit: int = 10) -> tuple[Benchmark, ...]:
        """The newest ones, newest first."""
        return tuple(record.value for record in await self._records.history(Query(limit=limit)))
