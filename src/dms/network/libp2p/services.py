"""Runs the services of the libp2p library (swarm, pubsub, router), and ours, so that a failing task stays a failing task.

The library's own manager ends the service, and with it the host, when any of its tasks raises; it also counts children
per parent and refuses the thousandth, which a long-lived node reaches. Here a task that raises is logged and counted.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.tools.anyio_service.api import InternalManagerAPI, ManagerAPI, ServiceAPI
from libp2p.tools.anyio_service.stats import Stats, TaskStats

log = logging.getLogger(__name__)

RESTART_S = 1.0

AsyncFn = Callable[..., Awaitable[Any]]  # the library's own type: tasks of any signature


class ServiceRunner(InternalManagerAPI):
    """The manager that a service of the library sees."""

    def __init__(self, service: ServiceAPI, nursery: trio.Nursery, on_failure: Callable[[], None]) -> None:
        self._service = service
        self._nursery = nursery
        self._on_failure = on_failure
        self._started = trio.Event()
        self._finished = trio.Event()
        self._count = 0
        self.did_fail = False

    @property
    def is_started(self) -> bool:
        """Whether it was started."""
        return self._started.is_set()

    @property
    def is_running(self) -> bool:
        """Whether tasks may be started."""
        return self.is_started and not self.is_finished

    @property
    def is_cancelled(self) -> bool:
        """Whether it was told to end."""
        return self._nursery.cancel_scope.cancel_called

    @property
    def is_finished(self) -> bool:
        """Whether it ended."""
        return self._finished.is_set()

    @property
    def did_error(self) -> bool:
        """Whether any task failed."""
        return self.did_fail

    @property
    def stats(self) -> Stats:
        """How many tasks ran."""
        return Stats(tasks=TaskStats(total_count=self._count, finished_count=self._count))

    async def wait_started(self) -> None:
        """Return once it runs."""
        await self._started.wait()

    async def wait_finished(self) -> None:
        """Return once it ended."""
        await self._finished.wait()

    def cancel(self) -> None:
        """End all tasks."""
        self._nursery.cancel_scope.cancel()

    async def stop(self) -> None:
        """End all tasks; the context of :func:`running` waits for them."""
        self.cancel()

    def run_task(self, async_fn: AsyncFn, *args: Any, daemon: bool = False, name: str | None = None) -> None:
        """Run something in the background; what it raises is logged and counted."""
        self._count += 1
        self._nursery.start_soon(self._guarded, async_fn, *args, name=name or getattr(async_fn, "__qualname__", None))

    def run_daemon_task(self, async_fn: AsyncFn, *args: Any, name: str | None = None) -> None:
        """The same for something that should go on until the end."""
        self.run_task(async_fn, *args, name=name)

    def run_child_service(
        self,
        service: ServiceAPI,
        daemon: bool = False,  # noqa: FBT001, FBT002  the library's signature
        name: str | None = None,
    ) -> ManagerAPI:
        """Run another service in the same nursery."""
        child = ServiceRunner(service, self._nursery, self._on_failure)
        self.run_task(child.run, name=name)
        return child

    def run_daemon_child_service(self, service: ServiceAPI, name: str | None = None) -> ManagerAPI:
        """The same for one that should go on until the end."""
        return self.run_child_service(service, name=name)

    async def run(self) -> None:
        """Run the service itself."""
        self._service._manager = self  # noqa: SLF001  the library's service finds its manager there
        self._started.set()
        await self._service.run()

    def finish(self) -> None:
        """Say that everything ended."""
        self._finished.set()

    async def _guarded(self, async_fn: AsyncFn, *args: Any) -> None:
        try:
            await async_fn(*args)
        except Exception as error:  # noqa: BLE001  whatever the library raises must not end the host
            self.did_fail = True
            self._on_failure()
            log.debug("%s of %s failed: %r", getattr(async_fn, "__qualname__", async_fn), self._service, error)


async def persist(task: AsyncFn, *args: Any, on_failure: Callable[[], None]) -> None:
    """Run a task of ours that should go on until cancelled; one that raises is logged, counted, and run again.

    What it meets comes from strangers: an exception that nobody thought of must not end the node.
    """
    while True:
        try:
            await task(*args)
        except Exception:
            on_failure()
            log.exception("%s failed; again in %g s", getattr(task, "__qualname__", task), RESTART_S)
        else:
            return
        await trio.sleep(RESTART_S)


@asynccontextmanager
async def running(service: ServiceAPI, on_failure: Callable[[], None]) -> AsyncIterator[None]:
    """Run a service of the library for the length of the context."""
    runner: ServiceRunner | None = None
    try:
        async with trio.open_nursery() as nursery:
            runner = ServiceRunner(service, nursery, on_failure)
            service._manager = runner  # noqa: SLF001  some are asked before their first step
            runner.run_task(runner.run, name=type(service).__name__)
            await runner.wait_started()
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
    finally:
        if runner is not None:
            runner.finish()
