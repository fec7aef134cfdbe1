from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.tasks.agenda import AGEING_S, MAX_WALL_SLEEP_S, Agenda, Moment, Run, TaskID
from dms.tasks.cron import CronExpression
from dms.tasks.errors import BadPlan, TaskNotFound
from dms.tasks.plan import Missed, Plan, Retry
from dms.tasks.trigger import After, At, Cron, Fired, Interval, Trigger

START_S = 1_800_000_000.0
"""15 January 2027, 8:00 UTC."""


def no_jitter() -> float:
    return 0.0


@dataclass
class Play:
    """An agenda driven on a clock of numbers: runs last ``lasts_s``, those of ``fails`` fail."""

    agenda: Agenda
    lasts_s: dict[TaskID, float] = field(default_factory=dict)
    fails: set[TaskID] = field(default_factory=set)
    rng: random.Random = field(default_factory=random.Random)
    now_s: float = 0.0
    offset_s: float = START_S
    runs: list[Run] = field(default_factory=list)
    active: list[tuple[float, Run]] = field(default_factory=list)
    most: int = 0

    @property
    def now(self) -> Moment:
        return Moment(self.now_s, self.now_s + self.offset_s)

    def add(self, *triggers: Trigger, lasts_s: float = 0.0, **rules: object) -> TaskID:
        task = self.agenda.add(Plan(name="t", triggers=triggers, **rules), self.now, self.rng.random)  # type: ignore[arg-type]
        self.lasts_s[task] = lasts_s
        return task

    def until(self, end_s: float) -> None:
        """Let the time pass, waking when the agenda asks for it and when a run ends."""
        while True:
            for run in self.agenda.collect(self.now, self.rng.random):
                self.runs.append(run)
                self.active.append((self.now_s + self.lasts_s[run.task], run))
            self.most = max(self.most, len(self.active))
            for run in [run for ends_s, run in self.active if ends_s <= self.now_s]:
                self.active = [(s, r) for s, r in self.active if r is not run]
                self.agenda.ended(run, self.now, self.rng.random, "broken" if run.task in self.fails else "")
            next_s = min([self.agenda.next_wake_s(self.now), *(s for s, _ in self.active)])
            if next_s > end_s:
                self.now_s = end_s
                return
            self.now_s = max(self.now_s, next_s)

    def starts(self, task: TaskID) -> list[float]:
        return [run.started.mono_s for run in self.runs if run.task == task]


def play(max_running: int = 100, seed: int = 0) -> Play:
    return Play(Agenda(max_running=max_running), rng=random.Random(seed))


# when -----------------------------------------------------------------------------------------------------------------


@given(everys=st.lists(st.floats(0.1, 50), min_size=1, max_size=8))
@settings(max_examples=50)
def test_intervals_fire_exactly(everys: list[float]) -> None:
    stage = play()
    tasks = [stage.add(Interval(every_s)) for every_s in everys]

    stage.until(100.0)

    for task, every_s in zip(tasks, everys, strict=True):
        starts = stage.starts(task)
        assert math.floor(100 / every_s - 1e-6) <= len(starts) <= math.floor(100 / every_s + 1e-6)
        assert starts == pytest.approx([every_s * (n + 1) for n in range(len(starts))], rel=1e-9)


def test_the_first_time_of_an_interval_can_be_given() -> None:
    stage = play()
    task = stage.add(Interval(10.0, first_s=0.0))

    stage.until(25.0)

    assert stage.starts(task) == [0.0, 10.0, 20.0]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30)
def test_jitter_makes_an_interval_longer_never_shorter(seed: int) -> None:
    stage = play(seed=seed)
    task = stage.add(Interval(10.0, jitter_s=5.0))

    stage.until(500.0)

    starts = stage.starts(task)
    gaps = [b - a for a, b in zip([0.0, *starts], starts, strict=False)]
    assert all(10.0 <= gap <= 15.0 for gap in gaps)
    assert len(set(gaps)) > 5


def test_cron_follows_the_wall_clock() -> None:
    stage = play()
    task = stage.add(Cron(CronExpression("*/10 * * * *")))

    stage.until(1801.0)

    assert stage.starts(task) == pytest.approx([600.0, 1200.0, 1800.0], abs=1e-3)


def test_one_time_tasks_run_once_and_are_forgotten() -> None:
    stage = play()
    after, at, past = stage.add(After(5.0)), stage.add(At(START_S + 7.0)), stage.add(At(START_S - 1e6))

    stage.until(1000.0)

    assert [stage.starts(task) for task in (after, at, past)] == [[5.0], [7.0], [0.0]]
    assert stage.agenda.tasks() == ()


def test_what_comes_due_together_runs_once() -> None:
    stage = play()
    task = stage.add(Interval(10.0), Interval(5.0), After(10.0))

    stage.until(10.0)

    assert stage.starts(task) == [5.0, 10.0]


def test_nobody_wakes_for_nothing() -> None:
    agenda = Agenda(max_running=1)
    now = Moment(0.0, START_S)
    assert agenda.next_wake_s(now) == math.inf
    agenda.add(Plan(name="e", triggers=(Fired(),)), now, no_jitter)
    assert agenda.next_wake_s(now) == math.inf
    agenda.add(Plan(name="c", triggers=(At(START_S + 1e6),)), now, no_jitter)
    assert agenda.next_wake_s(now) == MAX_WALL_SLEEP_S  # the clock may be set meanwhile
    agenda.add(Plan(name="i", triggers=(Interval(20.0),)), now, no_jitter)
    assert agenda.next_wake_s(now) == 20.0


# events ---------------------------------------------------------------------------------------------------------------


def test_events_run_a_task_at_once_and_none_is_lost() -> None:
    stage = play()
    task = stage.add(Fired(), lasts_s=10.0)
    stage.until(1.0)
    stage.agenda.fire(task, stage.now)
    stage.until(3.0)
    for _ in range(5):
        stage.agenda.fire(task, stage.now)

    stage.until(100.0)

    assert stage.starts(task) == [1.0, 11.0]


def test_many_events_cost_few_runs_where_a_gap_is_asked_for() -> None:
    stage = play()
    task = stage.add(Fired(gap_s=30.0), lasts_s=1.0)
    for second in range(60):
        stage.until(float(second))
        stage.agenda.fire(task, stage.now)

    stage.until(200.0)

    assert stage.starts(task) == [0.0, 30.0, 60.0]


# overlap, order, limits -----------------------------------------------------------------------------------------------


@given(
    tasks=st.lists(
        st.tuples(st.floats(0.5, 20), st.floats(0, 30), st.integers(0, 9), st.booleans()), min_size=1, max_size=10
    ),
    max_running=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_limits_hold_and_nothing_starves(
    tasks: list[tuple[float, float, int, bool]], max_running: int, seed: int
) -> None:
    stage = play(max_running, seed)
    rules = {}
    for every_s, lasts_s, priority, overlaps in tasks:
        task = stage.add(Interval(every_s), lasts_s=lasts_s, priority=priority, overlaps=overlaps)
        rules[task] = (priority, overlaps)

    stage.until(300.0)

    assert stage.most <= max_running
    for task, (_, overlaps) in rules.items():
        mine = [run for run in stage.runs if run.task == task]
        gaps = [b.started.mono_s - a.started.mono_s for a, b in itertools.pairwise(mine)]
        assert overlaps or all(gap >= stage.lasts_s[task] - 1e-6 for gap in gaps)
    for earlier, later in zip(stage.runs, stage.runs[1:], strict=False):
        if later.due.mono_s > earlier.started.mono_s:
            continue  # it did not wait when the other one began
        places = [run.due.mono_s + rules[run.task][0] * AGEING_S for run in (earlier, later)]
        assert places[0] <= places[1] + 1e-6


def test_the_least_urgent_task_runs_although_urgent_ones_never_end() -> None:
    stage = play(max_running=1)
    for _ in range(3):
        stage.add(Interval(1.0), lasts_s=1.0, priority=0)
    last = stage.add(Interval(1.0), lasts_s=1.0, priority=9)

    stage.until(1000.0)

    starts = stage.starts(last)
    assert starts
    assert starts[0] <= 1.0 + 9 * AGEING_S + 3.0
    assert all(b - a <= 9 * AGEING_S + 4.0 for a, b in itertools.pairwise(starts))


def test_urgent_tasks_go_first() -> None:
    stage = play(max_running=1)
    low = stage.add(After(1.0), lasts_s=1.0, priority=9)
    high = stage.add(After(1.0), lasts_s=1.0, priority=0)

    stage.until(10.0)

    assert stage.starts(high) == [1.0]
    assert stage.starts(low) == [2.0]


def test_an_interval_shorter_than_its_run_leaves_times_out() -> None:
    stage = play()
    task = stage.add(Interval(10.0), lasts_s=14.0)

    stage.until(80.0)

    assert stage.starts(task) == [10.0, 30.0, 50.0, 70.0]


def test_a_cron_time_during_a_run_is_made_up_for_once_or_left_out() -> None:
    stage = play()
    once = stage.add(Cron(CronExpression("* * * * *")), lasts_s=150.0)
    skip = stage.add(Cron(CronExpression("* * * * *")), lasts_s=150.0, missed=Missed.SKIP)

    stage.until(400.0)

    assert stage.starts(once) == pytest.approx([60.0, 210.0, 360.0], abs=1e-3)
    assert stage.starts(skip) == pytest.approx([60.0, 240.0], abs=1e-3)


# failure --------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), retries=st.integers(1, 8))
@settings(max_examples=30)
def test_retries_back_off(seed: int, retries: int) -> None:
    stage = play(seed=seed)
    task = stage.add(After(0.0), retry=Retry(max_retries=retries, base_s=1.0, max_s=20.0, jitter=0.5))
    stage.fails.add(task)

    stage.until(10_000.0)

    runs = [run for run in stage.runs if run.task == task]
    assert [run.attempt for run in runs] == list(range(retries + 1))
    for n, (a, b) in enumerate(itertools.pairwise(runs)):
        whole_s = min(20.0, 2.0**n)
        assert whole_s / 2 - 1e-6 <= b.started.mono_s - a.started.mono_s <= whole_s + 1e-6
    assert task not in stage.agenda


def test_a_failing_task_keeps_its_back_off_although_its_interval_is_shorter() -> None:
    stage = play()
    task = stage.add(Interval(1.0), retry=Retry(max_retries=1, base_s=100.0, jitter=0.0))
    stage.fails.add(task)

    stage.until(150.0)

    assert stage.starts(task)[:2] == [1.0, 101.0]
    assert stage.starts(task)[2] == 102.0


def test_history_is_bounded_and_tells_errors() -> None:
    stage = play()
    task = stage.add(Interval(1.0))
    stage.fails.add(task)

    stage.until(1000.0)

    history = stage.agenda.view(task, stage.now).history
    assert len(history) == 20
    assert history[-1].error == "broken"
    assert history[-1].started_s == START_S + 1000.0


# pause, sleep, clocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missed", "starts"), [(Missed.ONCE, [10.0, 55.0, 60.0]), (Missed.SKIP, [10.0, 60.0])])
def test_a_paused_task_makes_up_for_it_once_or_not(missed: Missed, starts: list[float]) -> None:
    stage = play()
    task = stage.add(Interval(10.0), missed=missed)
    stage.until(15.0)
    stage.agenda.pause(task)
    stage.until(55.0)
    stage.agenda.resume(task, stage.now)

    stage.until(65.0)

    assert stage.starts(task) == starts


def test_a_paused_one_time_task_is_not_lost() -> None:
    stage = play()
    task = stage.add(After(5.0), missed=Missed.SKIP)
    stage.agenda.pause(task)
    stage.until(50.0)
    assert stage.starts(task) == []

    stage.agenda.resume(task, stage.now)
    stage.until(60.0)

    assert stage.starts(task) == [50.0]


@pytest.mark.parametrize(("missed", "count"), [(Missed.ONCE, 1), (Missed.SKIP, 0)])
def test_after_a_sleep_of_the_machine_missed_times_run_once_or_not(missed: Missed, count: int) -> None:
    stage = play()
    task = stage.add(Cron(CronExpression("0 * * * *")), missed=missed)
    stage.until(100.0)
    stage.offset_s += 10 * 3600 + 120  # the clock of the intervals stood still

    stage.until(100.0 + MAX_WALL_SLEEP_S)

    assert len(stage.starts(task)) == count


def test_a_clock_set_back_a_little_repeats_nothing() -> None:
    stage = play()
    task = stage.add(Cron(CronExpression("*/10 * * * *")))
    stage.until(610.0)
    stage.offset_s -= 300.0

    stage.until(2000.0)

    walls = [run.started.wall_s for run in stage.runs if run.task == task]
    assert walls == pytest.approx([START_S + 600 * n for n in (1, 2)], abs=1e-3)


def test_a_clock_that_was_years_ahead_does_not_hold_cron_back() -> None:
    stage = play()
    stage.offset_s += 1e8
    task = stage.add(Cron(CronExpression("*/10 * * * *")))
    stage.until(610.0)
    before = len(stage.starts(task))
    stage.offset_s -= 1e8

    stage.until(2000.0)

    assert before == 1
    assert len(stage.starts(task)) >= 3


def test_a_removed_task_runs_no_more_and_unknown_ones_are_refused() -> None:
    stage = play()
    task = stage.add(Interval(1.0))
    stage.until(2.5)
    stage.agenda.remove(task)

    stage.until(10.0)

    assert stage.starts(task) == [1.0, 2.0]
    with pytest.raises(TaskNotFound):
        stage.agenda.pause(task)


def test_removed_tasks_leave_nothing_behind() -> None:
    agenda, now = Agenda(max_running=1), Moment(0.0, START_S)
    for _ in range(1000):
        agenda.remove(agenda.add(Plan(name="t", triggers=(After(1e6), At(START_S + 1e6))), now, no_jitter))

    assert len(agenda._mono) + len(agenda._wall) < 200


@pytest.mark.parametrize("bad", [lambda: Interval(0.0), lambda: Interval(math.nan), lambda: Interval(1.0, -1.0)])
def test_intervals_that_make_no_sense_are_refused(bad: object) -> None:
    with pytest.raises(BadPlan):
        bad()  # type: ignore[operator]


def test_plans_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadPlan, match="no trigger"):
        Plan(name="t", triggers=())
    with pytest.raises(BadPlan, match="priority"):
        Plan(name="t", triggers=(Fired(),), priority=10)
