"""The plugins of a running node: opened, kept apart from each other and from the node, named when they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from trio import TaskStatus

from dms.executor.protocol import Executor
from dms.hardware.gpu import GPUSource
from dms.observe import get_logger
from dms.observe.events import EventBus
from dms.plugins.contract import EVENTS, EXECUTORS, HARDWARE, STORAGE, ExecutorPlace, OpenExecutor
from dms.plugins.finding import Plugins
from dms.plugins.guard import guarded_executor, guarded_provider
from dms.storage.transfer import Provider

OPEN_DEADLINE_S = 15.0

T = TypeVar("T")

log = get_logger(__name__)


class RunningPlugins:
    """``problems`` maps ``group/name`` to why a plugin is not in use, or is not any more."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self.problems = {f"{plugin.group}/{plugin.name}": plugin.problem for plugin in plugins.problems}
        for plugin in plugins.problems:
            log.warning("plugin_skipped", plugin=plugin.name, package=plugin.package, reason=plugin.problem)

    def providers(self) -> tuple[Provider, ...]:
        """One of each kind of storage."""
        return tuple(
            guarded_provider(made, name)
            for name, make in self._plugins.storage.items()
            if (made := self._made(STORAGE, name, make)) is not None
        )

    def gpu_sources(self) -> tuple[GPUSource, ...]:
        """One of each vendor; the probe guards them itself."""
        sources = (self._made(HARDWARE, name, make) for name, make in self._plugins.hardware.items())
        return tuple(source for source in sources if source is not None)

    async def open_executors(
        self, background: trio.Nursery, state_dir: Path, executor_id: str, *, taken: Iterable[str] = ()
    ) -> dict[str, Executor]:
        """Open every executor, each with a nursery of its own in ``background``: one that fails later takes nobody along."""
        opened: dict[str, Executor] = {}

        async def attempt(name: str, open_: OpenExecutor) -> None:
            place = state_dir / name
            try:
                with trio.fail_after(OPEN_DEADLINE_S):
                    executor = await background.start(self._live, name, open_, place, executor_id)
            except trio.TooSlowError:
                self._failed(EXECUTORS, name, "it does not open")
            except Exception as exc:  # noqa: BLE001
                self._failed(EXECUTORS, name, _cause(exc), exc)
            else:
                if executor is not None:
                    opened[name] = guarded_executor(executor, name, partial(self.problems.get, f"{EXECUTORS}/{name}"))

        async with trio.open_nursery() as nursery:
            for name, open_ in self._plugins.executors.items():
                if name not in taken:
                    nursery.start_soon(attempt, name, open_)
        return opened

    def start_listeners(self, background: trio.Nursery, bus: EventBus) -> None:
        """Let every listener hear what happens from now on."""
        for name, listen in self._plugins.events.items():

            async def run(name: str = name, listen: Callable[..., Awaitable[None]] = listen) -> None:
                with bus.subscribe() as events:
                    try:
                        await listen(events)
                    except Exception as exc:  # noqa: BLE001
                        self._failed(EVENTS, name, _cause(exc), exc)

            background.start_soon(run)

    async def _live(
        self,
        name: str,
        open_: OpenExecutor,
        state_dir: Path,
        executor_id: str,
        *,
        task_status: TaskStatus[Executor | None],
    ) -> None:
        is_open = False
        try:
            async with trio.open_nursery() as nursery:
                executor = await open_(ExecutorPlace(nursery, state_dir, executor_id))
                is_open = True
                task_status.started(executor)
                await trio.sleep_forever()
        except Exception as exc:  # noqa: BLE001
            self._failed(EXECUTORS, name, _cause(exc), exc)
            if not is_open:
                task_status.started(None)

    def _made(self, group: str, name: str, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except Exception as exc:  # noqa: BLE001
            self._failed(group, name, _cause(exc), exc)
            return None

    def _failed(self, group: str, name: str, reason: str, exc: Exception | None = None) -> None:
        self.problems[f"{group}/{name}"] = reason
        log.error("plugin_failed", plugin=name, group=group, reason=reason, exc_info=exc)


def _cause(exc: Exception) -> str:
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return f"{type(exc).__name__}: {' '.join(str(exc).split())[:200]}"
