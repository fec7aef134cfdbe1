"""The life of an allocation: every arrow, and what holds whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.allocation.machine import (
    Action,
    AllocationState,
    AllocationView,
    Ended,
    Event,
    Shutdown,
    Start,
    StartFailed,
    Stop,
    step,
)
from dms.executor.protocol import EndReason, ExecutionResult

PENDING, STANDBY, RUNNING, STOPPED = (AllocationView(s) for s in list(AllocationState)[:4])
GOOD = Ended(ExecutionResult(0, EndReason.EXITED))
BAD = Ended(ExecutionResult(3, EndReason.EXITED))
EVENTS: list[Event] = [
    Start(),
    StartFailed("no disk"),
    GOOD,
    BAD,
    Ended(ExecutionResult(0, EndReason.KILLED, "execution possibly killed")),
    Ended(ExecutionResult(137, EndReason.OUT_OF_MEMORY, "out of memory")),
    Stop(),
    Shutdown("asked"),
    Ended(ExecutionResult(3, EndReason.EXITED), hold=True),
    StartFailed("no disk", hold=True),
]


def test_states_are_those_of_the_wire() -> None:
    assert [s.value for s in AllocationState] == [
        "pending",
        "standby",
        "running",
        "stopped",
        "failed",
        "completed",
        "terminated",
    ]


@pytest.mark.parametrize("view", [PENDING, STANDBY, STOPPED])
def test_a_start_runs_it(view: AllocationView) -> None:
    assert step(view, Start()) == (RUNNING, (Action.EXECUTE, Action.REPORT))


def test_a_second_start_changes_nothing() -> None:
    assert step(RUNNING, Start()) == (RUNNING, ())


def test_a_start_that_fails_is_a_failure_of_the_machine() -> None:
    view, actions = step(RUNNING, StartFailed("no disk"))
    assert (view.state, view.error, view.exit_code, view.reason) == (
        AllocationState.FAILED,
        "no disk",
        -1,
        "infrastructure",
    )
    assert view.never_ran
    assert actions == (Action.REPORT, Action.RELEASE)


def test_exit_code_zero_is_completion() -> None:
    view, actions = step(RUNNING, GOOD)
    assert (view.state, view.error, view.exit_code) == (AllocationState.COMPLETED, "", 0)
    assert actions == (Action.REPORT, Action.RELEASE)


def test_any_other_exit_code_is_failure() -> None:
    view, actions = step(RUNNING, BAD)
    assert (view.state, view.error, view.exit_code, view.reason) == (
        AllocationState.FAILED,
        "exit code 3",
        3,
        "exited",
    )
    assert not view.never_ran
    assert actions == (Action.REPORT, Action.RELEASE)


def test_exit_code_zero_of_something_killed_is_failure() -> None:
    view, _ = step(RUNNING, Ended(ExecutionResult(0, EndReason.KILLED, "execution possibly killed")))
    assert (view.state, view.error, view.killed) == (AllocationState.FAILED, "execution possibly killed", True)


def test_a_stop_keeps_what_is_reserved() -> None:
    view, actions = step(RUNNING, Stop())
    assert (view.state, actions) == (AllocationState.STOPPED, (Action.CANCEL, Action.REPORT))
    assert step(PENDING, Stop()) == (PENDING, ())


@pytest.mark.parametrize("view", [PENDING, STANDBY, RUNNING, STOPPED])
def test_a_shutdown_ends_it_in_any_state(view: AllocationView) -> None:
    after, actions = step(view, Shutdown("asked"))
    assert (after.state, after.error) == (AllocationState.TERMINATED, "asked")
    assert actions[-2:] == (Action.REPORT, Action.RELEASE)
    assert (Action.CANCEL in actions) is (view is RUNNING)


def test_what_may_be_restarted_keeps_its_place_when_it_fails() -> None:
    view, actions = step(RUNNING, Ended(ExecutionResult(3, EndReason.EXITED), hold=True))
    assert (view.state, view.error, view.exit_code, view.is_held) == (AllocationState.STOPPED, "exit code 3", 3, True)
    assert actions == (Action.REPORT,)
    assert step(view, Start()) == (RUNNING, (Action.EXECUTE, Action.REPORT))
    after, actions = step(view, Shutdown("asked"))
    assert (after.state, actions) == (AllocationState.TERMINATED, (Action.REPORT, Action.RELEASE))
    assert not STOPPED.is_held, "it was stopped, it did not fail"


def test_what_may_be_restarted_is_over_when_it_ends_well() -> None:
    view, actions = step(RUNNING, Ended(ExecutionResult(0, EndReason.EXITED), hold=True))
    assert (view.state, actions) == (AllocationState.COMPLETED, (Action.REPORT, Action.RELEASE))


def test_a_restart_that_fails_keeps_its_place_and_is_told_to_whoever_asked_for_it() -> None:
    view, actions = step(RUNNING, StartFailed("no disk", hold=True))
    assert (view.state, view.error, view.is_held, actions) == (AllocationState.STOPPED, "no disk", True, (Action.SAVE,))


@pytest.mark.parametrize("view", [PENDING, STOPPED])
def test_an_end_of_what_does_not_run_changes_nothing(view: AllocationView) -> None:
    assert step(view, GOOD) == (view, ())


@settings(max_examples=100)
@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_whatever_comes_it_is_released_exactly_once_at_its_end(events: list[Event]) -> None:
    view, released, running = AllocationView(), 0, False
    for event in events:
        before = view
        view, actions = step(view, event)
        if before.state.is_final:
            assert (view, actions) == (before, ()), "an end is final"
        if view == before:
            assert set(actions) <= {Action.SAVE}
        released += Action.RELEASE in actions
        assert actions.count(Action.EXECUTE) <= 1
        if Action.EXECUTE in actions:
            assert not running, "never twice at once"
        if Action.CANCEL in actions:
            assert running, "only what runs is ended"
        running = view.state is AllocationState.RUNNING
        assert (Action.RELEASE in actions) is (view.state.is_final and not before.state.is_final)
        assert not actions or {Action.REPORT, Action.SAVE} & set(actions)
    assert released == view.state.is_final
