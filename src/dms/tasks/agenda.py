"""The decisions of the scheduler, pure: what is due, what runs next, when to look again.

It is fed with the time and with random numbers and keeps no clock of its own. Two clocks matter: intervals and delays go
by one that never jumps (``mono_s``), cron and moments by the wall clock (``wall_s``), whose jumps are met like this:

* forward, or a machine that slept: what was due meanwhile counts as missed (:class:`~dms.tasks.plan.Missed`);
* back by less than :data:`REPEATED_S`: nothing runs twice, the next time is the one after the last;
* back further: the clock was wrong before, times are counted anew from now.

No priority starves: a task's place in the queue is the moment when it came due plus :data:`AGEING_S` per step of
priority, so that an urgent task overtakes only what came due shortly before it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NewType

from dms.tasks.errors import TaskNotFound
from dms.tasks.plan import Missed, Plan
from dms.tasks.trigger import After, At, Cron, Fired, Interval, Trigger, is_one_time

AGEING_S = 10.0
"""What one step of priority is worth in time waited."""
LATE_S = 60.0
"""What comes later than this was missed."""
REPEATED_S = 3600.0
MAX_WALL_SLEEP_S = 60.0
"""The wall clock may be set while nobody looks; so long may that go unnoticed."""
SLACK_S = 1e-6
"""The wall clock in seconds is no finer."""
HISTORY = 20
MIN_COMPACTED = 64

_RETRY = -1
_MORE = -2

TaskID = NewType("TaskID", int)
Random = Callable[[], float]
_Place = tuple[float, int, TaskID, int]
"""When, the number that tells whether it still counts, whose, and which of its triggers."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks in seconds."""

    mono_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run to begin; ``attempt`` is 0 unless an earlier one failed."""

    number: int
    task: TaskID
    attempt: int
    due: Moment
    started: Moment


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended; wall clock, seconds since 1970. ``error`` is empty when it went well."""

    started_s: float
    ended_s: float
    attempt: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task as it is now; ``next_s`` seconds from now, endless when nothing is planned."""

    id: TaskID
    name: str
    is_paused: bool
    running: int
    is_waiting: bool
    next_s: float
    history: tuple[Outcome, ...]


@dataclass(slots=True, eq=False)
class _Entry:
    id: TaskID
    plan: Plan
    history: deque[Outcome]
    armed: dict[int, tuple[int, float, bool]] = field(default_factory=dict)
    """By trigger: the number of its place in the heap, when it is due, and whether that is by the wall clock."""
    running: int = 0
    queued: int | None = None
    attempt: int = 0
    is_paused: bool = False
    is_owed: bool = False
    """It runs again as soon as it can: it was due while it could not."""
    last_start_s: float = -math.inf


class Agenda:
    """All tasks, and what is to happen with them. Times may stand still, but ``mono_s`` never goes back."""

    def __init__(self, *, max_running: int, history: int = HISTORY) -> None:
        self.max_running = max_running
        self._history = history
        self._entries: dict[TaskID, _Entry] = {}
        self._ids = itertools.count()
        self._numbers = itertools.count()
        self._mono: list[_Place] = []
        self._wall: list[_Place] = []
        self._queue: list[tuple[float, int, TaskID, Moment]] = []
        self._running: dict[int, Run] = {}
        self._offset_s: float | None = None

    # tasks ---------------------------------------------------------------------------------------------------------

    def add(self, plan: Plan, now: Moment, random: Random) -> TaskID:
        """Take up a task; its triggers count from now."""
        task = TaskID(next(self._ids))
        entry = self._entries[task] = _Entry(task, plan, deque(maxlen=self._history))
        for index, trigger in enumerate(plan.triggers):
            self._arm_first(entry, index, trigger, now, random)
        return task

    def remove(self, task: TaskID) -> None:
        """Forget a task; a run that has begun may end.

        :raises TaskNotFound: there is none.
        """
        self._entry(task)
        del self._entries[task]
        self._mono, self._wall = self._compact(self._mono), self._compact(self._wall)

    def fire(self, task: TaskID, now: Moment) -> None:
        """The event that the task waits for has happened.

        :raises TaskNotFound: there is none.
        """
        entry = self._entry(task)
        gap_s = max((t.gap_s for t in entry.plan.triggers if isinstance(t, Fired)), default=0.0)
        ready_s = entry.last_start_s + gap_s
        if ready_s > now.mono_s and not entry.is_paused:
            if _MORE not in entry.armed:
                self._arm(entry, _MORE, ready_s, by_wall=False)
            return
        self._fall_due(entry, now, keeps=True)

    def pause(self, task: TaskID) -> None:
        """Begin no more runs of it. Times go on to pass.

        :raises TaskNotFound: there is none.
        """
        entry = self._entry(task)
        entry.is_paused = True
        if entry.queued is not None:
            entry.queued = None
            entry.is_owed = True

    def resume(self, task: TaskID, now: Moment) -> None:
        """Go on with it; what it missed it does once, if its plan says so.

        :raises TaskNotFound: there is none.
        """
        entry = self._entry(task)
        entry.is_paused = False
        self._pay(entry, now)

    def view(self, task: TaskID, now: Moment) -> TaskView:
        """One task.

        :raises TaskNotFound: there is none.
        """
        entry = self._entry(task)
        due = [at - now.wall_s if by_wall else at - now.mono_s for _, at, by_wall in entry.armed.values()]
        return TaskView(
            id=task,
            name=entry.plan.name,
            is_paused=entry.is_paused,
            running=entry.running,
            is_waiting=entry.queued is not None,
            next_s=max(0.0, min(due, default=math.inf)),
            history=tuple(entry.history),
        )

    def __contains__(self, task: TaskID) -> bool:
        return task in self._entries

    def tasks(self) -> tuple[TaskID, ...]:
        """All of them, oldest first."""
        return tuple(self._entries)

    @property
    def running(self) -> tuple[Run, ...]:
        """What runs now."""
        return tuple(self._running.values())

    # time ----------------------------------------------------------------------------------------------------------

    def collect(self, now: Moment, random: Random) -> tuple[Run, ...]:
        """The runs to begin now. Each must be told to have :meth:`ended`, once."""
        self._notice_jump(now, random)
        for at_s, entry, index in self._pop_due(self._mono, now.mono_s):
            self._on_due(entry, index, at_s, now, now.mono_s - at_s, random)
        for at_s, entry, index in self._pop_due(self._wall, now.wall_s + SLACK_S):
            self._on_due(entry, index, at_s, now, now.wall_s - at_s, random)
        return tuple(self._start(now))

    def ended(self, run: Run, now: Moment, random: Random, error: str = "") -> None:
        """A run is over, with ``error`` unless it went well."""
        if self._running.pop(run.number, None) is None:
            return
        entry = self._entries.get(run.task)
        if entry is None:
            return
        entry.running -= 1
        entry.history.append(Outcome(run.started.wall_s, now.wall_s, run.attempt, error))
        if error and run.attempt < entry.plan.retry.max_retries:
            if _RETRY not in entry.armed:
                entry.attempt = run.attempt + 1
                delay_s = entry.plan.retry.delay_s(entry.attempt, random())
                self._arm(entry, _RETRY, now.mono_s + delay_s, by_wall=False)
            return
        self._pay(entry, now)
        self._drop_if_over(entry)

    def next_wake_s(self, now: Moment) -> float:
        """When :meth:`collect` has something to do if nothing happens before, on the clock of ``mono_s``; or endless."""
        if self._queue and len(self._running) < self.max_running and self._first_queued() is not None:
            return now.mono_s
        wake_s = self._top(self._mono)
        wall_s = self._top(self._wall)
        if wall_s < math.inf:
            left_s = min(max(0.0, wall_s - now.wall_s), MAX_WALL_SLEEP_S)
            wake_s = min(wake_s, now.mono_s + left_s)
        return max(wake_s, now.mono_s)

    # ---------------------------------------------------------------------------------------------------------------

    def _entry(self, task: TaskID) -> _Entry:
        entry = self._entries.get(task)
        if entry is None:
            raise TaskNotFound(f"there is no task {task}")
        return entry

    def _arm_first(self, entry: _Entry, index: int, trigger: Trigger, now: Moment, random: Random) -> None:
        match trigger:
            case Interval(every_s, jitter_s, first_s):
                wait_s = (every_s if first_s is None else first_s) + jitter_s * random()
                self._arm(entry, index, now.mono_s + wait_s, by_wall=False)
            case Cron():
                self._arm_cron(entry, index, trigger, now.wall_s, random)
            case At(wall_s):
                self._arm(entry, index, wall_s, by_wall=True)
            case After(delay_s):
                self._arm(entry, index, now.mono_s + delay_s, by_wall=False)
            case Fired():
                return

    def _arm_cron(self, entry: _Entry, index: int, trigger: Cron, after_s: float, random: Random) -> None:
        at_s = trigger.expression.next_after(after_s)
        if at_s is not None:
            self._arm(entry, index, at_s + trigger.jitter_s * random(), by_wall=True)

    def _arm(self, entry: _Entry, index: int, at_s: float, *, by_wall: bool) -> None:
        number = next(self._numbers)
        entry.armed[index] = (number, at_s, by_wall)
        heap = self._wall if by_wall else self._mono
        heapq.heappush(heap, (at_s, number, entry.id, index))

    def _notice_jump(self, now: Moment, random: Random) -> None:
        offset_s, before_s = now.wall_s - now.mono_s, self._offset_s
        self._offset_s = offset_s
        if before_s is None or offset_s > before_s - REPEATED_S:
            return
        for entry in self._entries.values():
            for index, trigger in enumerate(entry.plan.triggers):
                if isinstance(trigger, Cron):
                    self._arm_cron(entry, index, trigger, now.wall_s, random)

    def _pop_due(self, heap: list[_Place], until_s: float) -> Iterator[tuple[float, _Entry, int]]:
        while heap and heap[0][0] <= until_s:
            place = heapq.heappop(heap)
            if self._is_valid(place):
                at_s, _, task, index = place
                entry = self._entries[task]
                del entry.armed[index]
                yield at_s, entry, index

    def _top(self, heap: list[_Place]) -> float:
        """When the first in the heap is due; what is void there is dropped."""
        while heap:
            if self._is_valid(heap[0]):
                return heap[0][0]
            heapq.heappop(heap)
        return math.inf

    def _is_valid(self, place: _Place) -> bool:
        _, number, task, index = place
        entry = self._entries.get(task)
        return entry is not None and entry.armed.get(index, (None,))[0] == number

    def _compact(self, heap: list[_Place]) -> list[_Place]:
        """Without what is void, once that is most of it."""
        if len(heap) <= MIN_COMPACTED + 2 * len(self._entries):
            return heap
        kept = [place for place in heap if self._is_valid(place)]
        heapq.heapify(kept)
        return kept

    def _on_due(self, entry: _Entry, index: int, at_s: float, now: Moment, late_s: float, random: Random) -> None:
        if index == _RETRY:
            self._enqueue(entry, now, now)
            return
        due = Moment(now.mono_s - late_s, now.wall_s - late_s)
        if index == _MORE:
            self._fall_due(entry, due, keeps=True)
            return
        trigger = entry.plan.triggers[index]
        if isinstance(trigger, Interval):
            steps = math.floor(late_s / trigger.every_s) + 1
            self._arm(entry, index, at_s + steps * trigger.every_s + trigger.jitter_s * random(), by_wall=False)
        elif isinstance(trigger, Cron):
            self._arm_cron(entry, index, trigger, max(at_s, now.wall_s), random)
        if late_s > LATE_S and not is_one_time(trigger) and entry.plan.missed is Missed.SKIP:
            return
        self._fall_due(entry, due, keeps=is_one_time(trigger), is_interval=isinstance(trigger, Interval))

    def _fall_due(self, entry: _Entry, due: Moment, *, keeps: bool, is_interval: bool = False) -> None:
        """It is due. Where it cannot run now, that is remembered if it ``keeps`` or its plan says so."""
        keeps = keeps or entry.plan.missed is Missed.ONCE
        if entry.is_paused:
            entry.is_owed = entry.is_owed or keeps
        elif entry.queued is not None or _RETRY in entry.armed:
            return  # the run that waits is for this, too
        elif entry.running and not entry.plan.overlaps:
            entry.is_owed = entry.is_owed or (keeps and not is_interval)
        else:
            self._enqueue(entry, due, due)

    def _enqueue(self, entry: _Entry, ready: Moment, due: Moment) -> None:
        if entry.is_paused:
            entry.is_owed = True
            return
        entry.queued = next(self._numbers)
        place_s = ready.mono_s + entry.plan.priority * AGEING_S
        heapq.heappush(self._queue, (place_s, entry.queued, entry.id, due))

    def _pay(self, entry: _Entry, now: Moment) -> None:
        if not entry.is_owed or entry.is_paused or entry.queued is not None or _RETRY in entry.armed:
            return
        if entry.running and not entry.plan.overlaps:
            return
        entry.is_owed = False
        gap_s = max((t.gap_s for t in entry.plan.triggers if isinstance(t, Fired)), default=0.0)
        ready_s = entry.last_start_s + gap_s
        if ready_s > now.mono_s:
            self._arm(entry, _MORE, ready_s, by_wall=False)
        else:
            self._enqueue(entry, now, now)

    def _first_queued(self) -> _Entry | None:
        """Who is next; what is void in the queue is dropped."""
        while self._queue:
            _, number, task, _ = self._queue[0]
            entry = self._entries.get(task)
            if entry is not None and entry.queued == number:
                return entry
            heapq.heappop(self._queue)
        return None

    def _start(self, now: Moment) -> Iterator[Run]:
        while len(self._running) < self.max_running and (entry := self._first_queued()) is not None:
            *_, due = heapq.heappop(self._queue)
            attempt, entry.attempt, entry.queued = entry.attempt, 0, None
            entry.running += 1
            entry.last_start_s = now.mono_s
            run = Run(next(self._numbers), entry.id, attempt, due, now)
            self._running[run.number] = run
            yield run

    def _drop_if_over(self, entry: _Entry) -> None:
        """A task of one-time triggers is forgotten after its run."""
        is_over = not entry.armed and not entry.running and entry.queued is None and not entry.is_owed
        if is_over and all(is_one_time(trigger) for trigger in entry.plan.triggers):
            del self._entries[entry.id]
