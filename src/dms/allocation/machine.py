"""The life of one allocation, as a pure state machine (``spec/orchestration.md`` 6.1).

::

    pending ──start──▶ running ──ends with code 0──▶ completed
       │                  ├──────ends otherwise────▶ failed (also when its outputs are lost)
       │                  ├──────stop──────────────▶ stopped ──start──▶ running
       │                  ├──ends otherwise, held──▶ stopped (with the error; its orchestrator restarts it or ends it)
       └──────────────────┴──────shutdown──────────▶ terminated

A standby begins as ``standby`` in place of ``pending``. Events come in, the next state and the actions to perform come out;
the shell performs them and feeds back what happened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from dms.executor.protocol import EndReason, ExecutionResult

OUTPUTS_LOST = "outputs_lost"
"""The reason of an end that was fine, but for what could not be saved of it."""


class AllocationState(Enum):
    """Where an allocation is; texts as on the wire."""

    PENDING = "pending"
    STANDBY = "standby"
    """As pending, and meant to stay so until it is needed."""
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    COMPLETED = "completed"
    TERMINATED = "terminated"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in (AllocationState.FAILED, AllocationState.COMPLETED, AllocationState.TERMINATED)


class Action(Enum):
    """What the shell must do."""

    EXECUTE = "execute"
    """Run the pre-start hooks and start the executor."""
    CANCEL = "cancel"
    """Ask the executor to end it."""
    REPORT = "report"
    """Tell the orchestrator of the new state."""
    SAVE = "save"
    """Nothing but to put the new state on disk, as with every other."""
    RELEASE = "release"
    """Free resources and everything else that it held."""


@dataclass(frozen=True, slots=True)
class Start:
    """The orchestrator wants it to run."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The executor refused, or a hook failed; ``hold``: keep the reservation for another try."""

    error: str
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The execution is over; ``lost`` says why what it wrote could not be saved, if that is so; ``hold``: if it failed, keep
    the reservation for a restart."""

    result: ExecutionResult
    lost: str = ""
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """End the execution, keep the reservation."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End everything."""

    reason: str = ""


Event = Start | StartFailed | Ended | Stop | Shutdown


@dataclass(frozen=True, slots=True)
class AllocationView:
    """State and how it came about; ``exit_code`` is ``None`` while nothing has ended."""

    state: AllocationState = AllocationState.PENDING
    error: str = ""
    exit_code: int | None = None
    reason: str = ""
    killed: bool = False

    @property
    def never_ran(self) -> bool:
        """Whether it failed before its workload did anything."""
        return self.reason == EndReason.INFRASTRUCTURE.value

    @property
    def is_held(self) -> bool:
        """Whether it has failed and waits for a restart."""
        return self.state is AllocationState.STOPPED and self.exit_code is not None


def step(view: AllocationView, event: Event) -> tuple[AllocationView, tuple[Action, ...]]:
    """Apply an event. Events that come late or twice change nothing and ask for nothing."""
    state = view.state
    if state.is_final:
        return view, ()
    match event:
        case Start():
            if state is AllocationState.RUNNING:
                return view, ()
            return AllocationView(AllocationState.RUNNING), (Action.EXECUTE, Action.REPORT)
        case StartFailed(error, hold):
            failed = AllocationView(AllocationState.FAILED, error, -1, EndReason.INFRASTRUCTURE.value)
            if hold:  # whoever asked for the start hears of it
                return replace(failed, state=AllocationState.STOPPED), (Action.SAVE,)
            return failed, (Action.REPORT, Action.RELEASE)
        case Ended(result, lost, hold):
            ended, actions = _ended(view, result, lost)
            if hold and ended.state is AllocationState.FAILED:
                return replace(ended, state=AllocationState.STOPPED), (Action.REPORT,)
            return ended, actions
        case Stop():
            if state is not AllocationState.RUNNING:
                return view, ()
            return AllocationView(AllocationState.STOPPED), (Action.CANCEL, Action.REPORT)
        case Shutdown(reason):
            ended = AllocationView(AllocationState.TERMINATED, reason, view.exit_code, view.reason, view.killed)
            actions = (Action.CANCEL, Action.REPORT, Action.RELEASE)
            return ended, actions if state is AllocationState.RUNNING else actions[1:]


def with_lost(view: AllocationView, lost: str) -> AllocationView:
    """The same end, of which the outputs were lost: whoever reads of it must not take them for saved."""
    told = f"its outputs are lost: {lost}"
    return replace(view, error=f"{view.error}; {told}" if view.error else told)


def _ended(view: AllocationView, result: ExecutionResult, lost: str) -> tuple[AllocationView, tuple[Action, ...]]:
    if view.state is not AllocationState.RUNNING:
        return view, ()
    state = AllocationState.COMPLETED if result.ok else AllocationState.FAILED
    error = "" if result.ok else (result.error_msg or f"exit code {result.exit_code}")
    ended = AllocationView(state, error, result.exit_code, result.reason.value, result.killed)
    if lost:
        reason = OUTPUTS_LOST if result.ok else ended.reason
        ended = replace(with_lost(ended, lost), state=AllocationState.FAILED, reason=reason)
    return ended, (Action.REPORT, Action.RELEASE)
