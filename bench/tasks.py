"""What 10,000 background tasks cost when nothing is due, and how exactly they run.

*Idle*: 9,000 intervals of hours and 1,000 cron expressions wait for ten seconds of real time; beside them a scheduler that
looks at every task each second, as one with a poll interval does. *Per run*: a simulated hour of 10,000 tasks, each every
five minutes, on a virtual clock, beside as many bare loops around ``trio.sleep``. *Lateness*: 500 intervals of a second on
the real clock, and all runs of the simulated hour on the virtual one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock

from bench.networks import Bench
from bench.report import Report
from dms.tasks import Cron, Interval, Scheduler
from dms.tasks.cron import CronExpression

TASKS = 10_000
IDLE_S = 10.0
HOUR_S = 3600.0
EVERY_S = 300.0
TURNS = int(HOUR_S / EVERY_S)
REAL_TASKS, REAL_S = 500, 5.0
MAX_IDLE = 0.001
MAX_LATE_MS = 20.0


def measure(_bench: Bench) -> Report:
    """See the module."""
    report = Report("tasks", "what do 10,000 background tasks cost, and are they in time?")
    adding_s, idle = trio.run(_idle)
    polled = trio.run(_idle_polled)
    report.single("a task added", adding_s / TASKS * 1e6, "µs")
    report.single("10,000 tasks, idle: processor time", idle * 100, "%")
    report.single("10,000 tasks, looked at each second", polled * 100, "%")
    ours_s, late_s, runs = _simulated(_scheduled)
    bare_s, _, loops = _simulated(_loops)
    ours = report.single("a run, scheduled", ours_s / runs * 1e6, "µs")
    bare = report.single("a run, bare loop around sleep", bare_s / loops * 1e6, "µs")
    report.ratio("a run: scheduled / bare loop", [ours], [bare])
    report.ratio("idle: waiting / looking each second", [idle], [polled])
    report.single("lateness on the virtual clock, worst", late_s * 1e3, "ms")
    late = trio.run(_real)
    report.single("lateness on the real clock, median", statistics.median(late) * 1e3, "ms")
    worst = report.single("lateness on the real clock, 99 of 100", sorted(late)[len(late) * 99 // 100] * 1e3, "ms")
    report.goal("10,000 tasks, idle: processor time", idle * 100, MAX_IDLE * 100, "%")
    report.goal("lateness on the virtual clock, worst", late_s * 1e3, 0.001, "ms")
    report.goal("lateness on the real clock, 99 of 100", worst, MAX_LATE_MS, "ms")
    return report


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()


async def _idle() -> tuple[float, float]:
    """Seconds that adding all took, and the share of a processor that waiting takes."""
    scheduler = Scheduler()
    begun = time.process_time()
    for number in range(TASKS):
        if number % 10:
            scheduler.add("interval", _nothing, Interval(HOUR_S + number))
        else:
            scheduler.add("cron", _nothing, Cron(CronExpression(f"{number % 60} 3 1 1 *", "Europe/Berlin")))
    adding_s = time.process_time() - begun
    async with trio.open_nursery() as nursery:
        await nursery.start(scheduler.run)
        idle = await _share_of_processor()
        nursery.cancel_scope.cancel()
    return adding_s, idle


async def _idle_polled() -> float:
    due = [(HOUR_S + number, number % 10, number) for number in range(TASKS)]

    async def poll() -> None:
        while True:
            now_s = trio.current_time()
            ready = [entry for entry in sorted(due, key=lambda entry: entry[1:]) if entry[0] <= now_s - begun_s]
            assert not ready
            await trio.sleep(1.0)

    begun_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        share = await _share_of_processor()
        nursery.cancel_scope.cancel()
    return share


async def _share_of_processor() -> float:
    await trio.sleep(0.1)
    begun, begun_s = time.process_time(), time.monotonic()
    await trio.sleep(IDLE_S)
    return (time.process_time() - begun) / (time.monotonic() - begun_s)


def _simulated(way: Callable[[list[float]], Awaitable[None]]) -> tuple[float, float, int]:
    """Processor time of an hour, the worst lateness in it, and how many runs there were."""
    late: list[float] = []

    async def hour() -> None:
        with trio.move_on_after(HOUR_S + 0.5):
            await way(late)

    begun = time.process_time()
    trio.run(hour, clock=MockClock(autojump_threshold=0))
    return time.process_time() - begun, max(late), len(late)


async def _scheduled(late: list[float]) -> None:
    scheduler = Scheduler(max_running=TASKS)
    begun_s = trio.current_time()
    firsts_s = [EVERY_S * (number + 1) / TASKS for number in range(TASKS)]
    # run for run in the order in which they are due, one more than there is time for
    expected = iter(sorted(begun_s + first_s + n * EVERY_S for first_s in firsts_s for n in range(TURNS + 1)))

    async def run() -> None:
        late.append(trio.current_time() - next(expected))
        await trio.lowlevel.checkpoint()

    for first_s in firsts_s:
        scheduler.add("t", run, Interval(EVERY_S, first_s=first_s))
    await scheduler.run()


async def _loops(late: list[float]) -> None:
    async def loop(first_s: float) -> None:
        await trio.sleep(first_s)
        due_s = trio.current_time()
        while True:
            late.append(trio.current_time() - due_s)
            due_s += EVERY_S
            await trio.sleep_until(due_s)

    async with trio.open_nursery() as nursery:
        for number in range(TASKS):
            nursery.start_soon(loop, EVERY_S * (number + 1) / TASKS)


async def _real() -> list[float]:
    late: list[float] = []
    scheduler = Scheduler(max_running=TASKS)
    begun_s = trio.current_time()
    for number in range(REAL_TASKS):
        first_s = (number + 1) / REAL_TASKS
        seen: list[float] = []

        async def run(first_s: float = first_s, seen: list[float] = seen) -> None:
            now_s = trio.current_time() - begun_s
            late.append(now_s - first_s - len(seen))
            seen.append(now_s)
            await trio.lowlevel.checkpoint()

        scheduler.add("t", run, Interval(1.0, first_s=first_s))
    with trio.move_on_after(REAL_S):
        await scheduler.run()
    return late
