"""The history of a deployment's versions, as the state keeps it; pure."""

from __future__ import annotations

from msgspec.structs import replace

from dms.orchestrator.errors import UpdateRefused
from dms.orchestrator.lifecycle.changes import with_changes
from dms.orchestrator.lifecycle.events import UpdateRequested
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.orchestrator.updating.state import FIRST_VERSION, MAX_VERSIONS, Outcome, Version

MAX_ERROR_CHARS = 500


def history_of(state: DeploymentState) -> tuple[Version, ...]:
    """All versions, oldest first; before the first update there is one."""
    first = Version(
        number=FIRST_VERSION,
        made_ns=state.created_ns,
        by=state.owner,
        what="as it was deployed",
        outcome=Outcome.CURRENT.value,
        ended_ns=state.created_ns,
    )
    return state.versions or (first,)


def version_of(state: DeploymentState, number: int) -> Version | None:
    """One of them."""
    return next((version for version in history_of(state) if version.number == number), None)


def check_updatable(state: DeploymentState) -> None:
    """Refuse an update where there is one already, or nothing that could be updated.

    :raises UpdateRefused: why.
    """
    if state.phase is not Phase.RUNNING:
        raise UpdateRefused(f"deployment is not running: it is {state.phase.value}", hint="deploy it anew")
    update = state.update
    if update is not None:
        what = "is being undone" if update.is_back else "is being rolled out"
        hint = "wait until it is" if update.is_back else "wait for it, or undo it: nunet update ID --cancel"
        raise UpdateRefused(f"version {update.version} {what}: one update at a time", hint=hint)


def requested(state: DeploymentState, event: UpdateRequested) -> tuple[DeploymentState, int]:
    """With one more, and its number. The oldest are forgotten, but not what runs."""
    known = history_of(state)
    number = known[-1].number + 1
    made = Version(
        number=number,
        made_ns=event.at_ns,
        by=event.by,
        request=event.request,
        what=event.what,
        copy_of=event.copy_of,
    )
    over = len(known) + 1 - MAX_VERSIONS
    forgotten = [version.number for version in known if version.number != state.version][: max(0, over)]
    kept = tuple(version for version in known if version.number not in forgotten)
    return with_changes(state, versions=(*kept, made)), number


def decided(state: DeploymentState, number: int, outcome: Outcome, at_ns: int, error: str = "") -> DeploymentState:
    """What became of one is known."""
    versions = tuple(
        replace(version, outcome=outcome.value, error=error[:MAX_ERROR_CHARS], ended_ns=at_ns)
        if version.number == number
        else version
        for version in state.versions
    )
    return with_changes(state, versions=versions)


def succeeded(state: DeploymentState, number: int, at_ns: int) -> DeploymentState:
    """That version is in force now."""
    state = decided(state, state.version, Outcome.SUPERSEDED, at_ns)
    return with_changes(decided(state, number, Outcome.CURRENT, at_ns), version=number)
