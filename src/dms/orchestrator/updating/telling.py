"""What happens to an update, for people: short, without keys and signatures."""

from __future__ import annotations

from dms.orchestrator.bidding.bids import describe_bid
from dms.orchestrator.bidding.measured import describe_pair
from dms.orchestrator.lifecycle.events import (
    StandbysWanted,
    UpdateAllocated,
    UpdateBids,
    UpdateCancelled,
    UpdateCommitted,
    UpdateDue,
    UpdateEvent,
    UpdateMeasured,
    UpdateRequested,
    UpdateStarted,
)
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.orchestrator.updating.merging import placed_names
from dms.orchestrator.updating.versions import version_of

MAX_TOLD = 100
"""Bids, pairs and nodes of one event; a deployment of thousands of nodes has many."""


def describe_update(event: UpdateEvent, after: DeploymentState) -> dict[str, object]:
    """One event."""
    match event:
        case UpdateRequested():
            return {"version": after.versions[-1].number, "by": event.by, "what": event.what} | (
                {"copy_of": event.copy_of} if event.copy_of else {}
            )
        case UpdateCancelled():
            return {"by": event.by}
        case UpdateBids():
            bids: list[object] = [describe_bid(bid) for bid in event.bids[:MAX_TOLD]]
            more = len(event.bids) - MAX_TOLD
            return {"round": event.round, "bids": bids, "chosen": _chosen(after)} | (
                {"more_bids": more} if more > 0 else {}
            )
        case UpdateMeasured():
            pairs = [describe_pair(pair) for pair in event.pairs[:MAX_TOLD]]
            return {"round": event.round, "pairs": pairs, "chosen": _chosen(after)}
        case UpdateCommitted():
            return {"refused": {key: r.error for key, r in sorted(event.results.items()) if not r.ok}}
        case UpdateAllocated():
            return {"refused": {node: r.error for node, r in sorted(event.results.items()) if not r.ok}}
        case UpdateStarted():
            failed = {key: r.error for key, r in sorted(event.results.items()) if not r.ok}
            return {"started": sorted(key for key, r in event.results.items() if r.ok)[:MAX_TOLD], "failed": failed}
        case UpdateDue() | StandbysWanted():
            return {}


def describe_progress(before: DeploymentState, after: DeploymentState) -> dict[str, object]:
    """What a step did to an update: how far it is, that it turned round, or how it ended."""
    update, former = after.update, before.update
    if update is None:
        if former is None:
            return {}
        version = version_of(after, former.version)
        outcome: dict[str, object] = {"version": former.version}
        if version is not None:
            outcome |= {"outcome": version.outcome} | ({"why": version.error} if version.error else {})
        return outcome
    told: dict[str, object] = {"version": update.version}
    if former is None or update.stage is not former.stage or update.round != former.round:
        told |= {"stage": update.stage.value}
    if former is None or update.batch != former.batch:
        told |= {"batch": list(update.batch[:MAX_TOLD])}
    if former is not None and update.is_back and not former.is_back:
        told |= {"reverts": True}
    if former is not None and update.switched != former.switched:
        told |= {"switched": len(update.switched)}
    if update.stopped and (former is None or update.stopped != former.stopped):
        told |= {"stopped": {node: update.moves.stops.get(node, update.why) for node in sorted(update.stopped)}}
    if update.why and (former is None or update.why != former.why):
        told |= {"why": update.why}
    return told


def _chosen(after: DeploymentState) -> dict[str, object]:
    if after.update is None:
        return {}
    names = list(placed_names(after.update))[:MAX_TOLD]
    return {own: after.assignment[own].peer for own in names if own in after.assignment}
