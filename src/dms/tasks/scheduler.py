"""Runs tasks when they are due: one timer for all of them, whatever their number."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

import trio
from trio import TaskStatus

from dms.observe import get_logger
from dms.tasks.agenda import HISTORY, Agenda, Moment, Run, TaskID, TaskView
from dms.tasks.plan import NO_RETRY, NORMAL, Missed, Plan, Retry
from dms.tasks.trigger import Trigger
from dms.types.errors import DMSError

MAX_RUNNING = 16
MAX_ERROR_CHARS = 500
NS_PER_S = 10**9

Function = Callable[[], Awaitable[object]]
"""What a task does; what it returns is not looked at, and an exception is its failure."""

log = get_logger(__name__)


class Scheduler:
    """Tasks of one process. :meth:`run` it once; tasks may be added before, during and by tasks.

    :param clock_ns: the wall clock, UNIX nanoseconds. Intervals go by trio's clock.
    :param rng: from 0 to 1, for jitter.
    :param max_running: runs at the same time.
    """

    def __init__(
        self,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        rng: Callable[[], float] = random.random,
        max_running: int = MAX_RUNNING,
        history: int = HISTORY,
    ) -> None:
        self._clock_ns = clock_ns
        self._rng = rng
        self._agenda = Agenda(max_running=max_running, history=history)
        self._functions: dict[TaskID, tuple[str, Function, float]] = {}
        self._scopes: dict[int, tuple[TaskID, trio.CancelScope]] = {}
        self._changed = trio.Event()
        self._idle: trio.Event | None = None
        self._is_stopping = False

    def add(
        self,
        name: str,
        function: Function,
        *triggers: Trigger,
        priority: int = NORMAL,
        missed: Missed = Missed.ONCE,
        retry: Retry = NO_RETRY,
        overlaps: bool = False,
        timeout_s: float = float("inf"),
    ) -> TaskID:
        """Have ``function`` run whenever one of ``triggers`` says so; see :class:`~dms.tasks.plan.Plan`.

        :param timeout_s: a run that takes longer is cancelled and has failed.
        :raises BadPlan: it makes no sense.
        """
        plan = Plan(name=name, triggers=triggers, priority=priority, missed=missed, retry=retry, overlaps=overlaps)
        task = self._agenda.add(plan, self._now(), self._rng)
        self._functions[task] = (name, function, timeout_s)
        self._wake()
        return task

    def remove(self, task: TaskID, *, cancels: bool = False) -> None:
        """Forget a task. A run that has begun goes on to its end, unless that ``cancels`` it. One that is gone is fine."""
        if self._functions.pop(task, None) is None:
            return
        if task in self._agenda:
            self._agenda.remove(task)
        if cancels:
            for owner, scope in self._scopes.values():
                if owner == task:
                    scope.cancel()

    def fire(self, task: TaskID) -> None:
        """The event of :class:`~dms.tasks.trigger.Fired` has happened.

        :raises TaskNotFound: there is no such task.
        """
        self._agenda.fire(task, self._now())
        self._wake()

    def pause(self, task: TaskID) -> None:
        """Begin no more runs of it.

        :raises TaskNotFound: there is no such task.
        """
        self._agenda.pause(task)

    def resume(self, task: TaskID) -> None:
        """Go on with it.

        :raises TaskNotFound: there is no such task.
        """
        self._agenda.resume(task, self._now())
        self._wake()

    def view(self, task: TaskID) -> TaskView:
        """One task as it is now.

        :raises TaskNotFound: there is no such task.
        """
        return self._agenda.view(task, self._now())

    def tasks(self) -> tuple[TaskView, ...]:
        """All tasks, oldest first."""
        now = self._now()
        return tuple(self._agenda.view(task, now) for task in self._agenda.tasks())

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what is due until cancelled, or until :meth:`stop`."""
        idle = self._idle = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while not self._is_stopping:
                    now = self._now()
                    for run in self._agenda.collect(now, self._rng):
                        nursery.start_soon(self._perform, run)
                    with trio.move_on_at(self._agenda.next_wake_s(now)):
                        await self._changed.wait()
                    self._changed = trio.Event()
        finally:
            idle.set()

    async def stop(self, grace_s: float) -> None:
        """Begin nothing more, wait for what runs, and cancel what still runs after ``grace_s``."""
        self._is_stopping = True
        self._wake()
        if self._idle is None:
            return
        with trio.move_on_after(grace_s):
            await self._idle.wait()
        for _, scope in self._scopes.values():
            scope.cancel()
        await self._idle.wait()

    async def _perform(self, run: Run) -> None:
        found = self._functions.get(run.task)
        if found is None:  # removed a moment ago
            self._agenda.ended(run, self._now(), self._rng)
            return
        name, function, timeout_s = found
        error = ""
        with trio.move_on_after(timeout_s) as scope:
            self._scopes[run.number] = (run.task, scope)
            try:
                await function()
            except Exception as exc:
                error = (str(exc) or type(exc).__name__)[:MAX_ERROR_CHARS]
                known = isinstance(exc, DMSError)
                log.warning(
                    "task_failed", task=name, attempt=run.attempt, reason=error, exc_info=None if known else exc
                )
            finally:
                del self._scopes[run.number]
        if scope.cancelled_caught:
            is_late = trio.current_time() >= scope.deadline
            error = f"it took longer than {timeout_s:g} s" if is_late else "cancelled"
            log.warning("task_cancelled", task=name, reason=error)
        self._agenda.ended(run, self._now(), self._rng, error)
        if run.task not in self._agenda:
            self._functions.pop(run.task, None)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()

    def _now(self) -> Moment:
        return Moment(trio.current_time(), self._clock_ns() / NS_PER_S)
