"""What is done when nothing smaller helps: the whole ensemble anew, or its end."""

from __future__ import annotations

from dms.orchestrator.lifecycle.changes import Step, giving_back, revert_owed, unassigned, with_changes
from dms.orchestrator.lifecycle.events import CollectBids, ShutdownAll
from dms.orchestrator.lifecycle.state import DeploymentState, Phase, Tries
from dms.orchestrator.lifecycle.strategies import Rung, used


def redeployed(state: DeploymentState, at_ns: int, why: str) -> Step:
    """Everything anew, with as much time as at the beginning."""
    patience_ns = state.patience_ns or state.deadline_ns - state.created_ns
    state = giving_back(state)
    tries = {name: each for name, each in state.tries.items() if name == "ensemble"}
    again = with_changes(
        unassigned(state),
        phase=Phase.PREPARING,
        round=state.round + 1,
        attempts=0,
        deadline_ns=at_ns + patience_ns,
        patience_ns=patience_ns,
        tries=tries,
        error=why,
        trouble=why,
    )
    return again, (*revert_owed(again), CollectBids(again.round))


def torn_down(state: DeploymentState, why: str) -> Step:
    """It ends itself."""
    return with_changes(state, phase=Phase.SHUTTING_DOWN, teardown=why, placements={}), (ShutdownAll(),)


def counted(state: DeploymentState, rung: Rung, at_ns: int) -> DeploymentState:
    """A rung of recovery was used once more."""
    count = used(state.tries, rung, at_ns) + 1
    return with_changes(state, tries=state.tries | {rung.name: Tries(count=count, last_ns=at_ns)})
