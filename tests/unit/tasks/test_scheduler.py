from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dms.tasks import After, At, Cron, Fired, Interval, Retry, Scheduler, TaskNotFound
from dms.tasks.cron import CronExpression

START_S = 1_800_000_000


def wall_ns() -> int:
    return int((START_S + trio.current_time()) * 1e9)


@asynccontextmanager
async def running(max_running: int = 16) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(clock_ns=wall_ns, rng=lambda: 0.0, max_running=max_running)
    async with trio.open_nursery() as nursery:
        await nursery.start(scheduler.run)
        yield scheduler
        nursery.cancel_scope.cancel()


class Times:
    """When it was called, and for how long it then goes on."""

    def __init__(self, lasts_s: float = 0.0, error: str = "") -> None:
        self.at: list[float] = []
        self.ended = 0
        self._begun_s = trio.current_time()
        self._lasts_s = lasts_s
        self._error = error

    async def __call__(self) -> None:
        self.at.append(round(trio.current_time() - self._begun_s, 6))
        await trio.sleep(self._lasts_s)
        self.ended += 1
        if self._error:
            raise OSError(self._error)


async def test_each_kind_of_trigger(autojump_clock: MockClock) -> None:
    interval, cron, at, after, fired = (Times() for _ in range(5))
    async with running() as scheduler:
        scheduler.add("interval", interval, Interval(7.0))
        scheduler.add("cron", cron, Cron(CronExpression("* * * * *")))
        scheduler.add("at", at, At(START_S + 5.0))
        scheduler.add("after", after, After(6.0))
        event = scheduler.add("fired", fired, Fired())
        await trio.sleep(20.0)
        scheduler.fire(event)
        await trio.sleep(50.0)

        assert interval.at == [7.0, 14.0, 21.0, 28.0, 35.0, 42.0, 49.0, 56.0, 63.0, 70.0][: len(interval.at)]
        assert len(interval.at) >= 9
        assert cron.at == [60.0]
        assert (at.at, after.at, fired.at) == ([5.0], [6.0], [20.0])
        assert [view.name for view in scheduler.tasks()] == ["interval", "cron", "fired"]


async def test_a_failure_is_kept_tried_again_and_harms_no_other(autojump_clock: MockClock) -> None:
    bad, good = Times(error="no disk"), Times()
    async with running() as scheduler:
        task = scheduler.add("bad", bad, Interval(100.0), retry=Retry(max_retries=2, base_s=1.0))
        scheduler.add("good", good, Interval(10.0))
        await trio.sleep(150.0)

        assert bad.at == [100.0, 101.0, 103.0]
        assert [outcome.error for outcome in scheduler.view(task).history] == ["no disk"] * 3
        assert len(good.at) >= 14


async def test_a_run_that_takes_too_long_is_cancelled(autojump_clock: MockClock) -> None:
    slow = Times(lasts_s=1e6)
    async with running() as scheduler:
        task = scheduler.add("slow", slow, Interval(10.0), timeout_s=3.0)
        await trio.sleep(15.0)

        assert slow.ended == 0
        assert scheduler.view(task).history[0].error == "it took longer than 3 s"
        assert scheduler.view(task).running == 0


async def test_no_more_run_at_once_than_allowed(autojump_clock: MockClock) -> None:
    times = [Times(lasts_s=10.0) for _ in range(3)]
    async with running(max_running=2) as scheduler:
        for one in times:
            scheduler.add("one", one, After(1.0))
        await trio.sleep(50.0)

    assert [one.at for one in times] == [[1.0], [1.0], [11.0]]


async def test_a_task_may_add_and_remove_tasks(autojump_clock: MockClock) -> None:
    late = Times()
    async with running() as scheduler:

        async def begin() -> None:
            scheduler.add("late", late, After(5.0))
            scheduler.remove(first)

        first = scheduler.add("first", begin, Interval(1.0))
        await trio.sleep(20.0)

        assert late.at == [6.0]
        assert scheduler.tasks() == ()
        scheduler.remove(first)  # one that is gone is fine
        with pytest.raises(TaskNotFound):
            scheduler.fire(first)


async def test_a_removed_task_goes_on_unless_it_is_cancelled(autojump_clock: MockClock) -> None:
    goes_on, cancelled = Times(lasts_s=5.0), Times(lasts_s=5.0)
    async with running() as scheduler:
        tasks = [scheduler.add("t", one, After(1.0)) for one in (goes_on, cancelled)]
        await trio.sleep(2.0)
        scheduler.remove(tasks[0])
        scheduler.remove(tasks[1], cancels=True)
        await trio.sleep(10.0)

    assert (goes_on.ended, cancelled.ended) == (1, 0)


async def test_pause_and_resume(autojump_clock: MockClock) -> None:
    times = Times()
    async with running() as scheduler:
        task = scheduler.add("t", times, Interval(10.0))
        scheduler.pause(task)
        await trio.sleep(35.0)
        assert times.at == []
        scheduler.resume(task)
        await wait_all_tasks_blocked()

        assert times.at == [35.0]


async def test_stop_begins_nothing_and_waits_for_what_runs(autojump_clock: MockClock) -> None:
    short, long, never = Times(lasts_s=3.0), Times(lasts_s=1e6), Times()
    scheduler = Scheduler(clock_ns=wall_ns)
    async with trio.open_nursery() as nursery:
        await nursery.start(scheduler.run)
        for name, one, delay_s in (("short", short, 1.0), ("long", long, 1.0), ("never", never, 2.5)):
            scheduler.add(name, one, After(delay_s))
        await trio.sleep(2.0)

        await scheduler.stop(grace_s=5.0)

        assert (short.ended, long.ended, never.at) == (1, 0, [])
        assert trio.current_time() == pytest.approx(7.0)


async def test_stopping_what_never_ran_is_fine() -> None:
    await Scheduler().stop(grace_s=1.0)
