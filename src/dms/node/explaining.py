"""What would become of an ensemble, and why a deployment waits or failed: ``/dms/node/deployment/plan`` and ``why``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import msgspec

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.changes import Changes
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.ids import new_ensemble_id
from dms.node.explaining_payloads import MAX_NAMES, Names, PlanProblem, PlanReply, PlanRequest, WhyReply, WhyRequest
from dms.node.finding import find_deployment
from dms.orchestrator.bidding.heard import ANY_NODE, Heard, heard_in
from dms.orchestrator.deployments import Deployments, check_deployable
from dms.orchestrator.errors import DeploymentNotRunning
from dms.orchestrator.explaining.planning import Plan, Planner, running_version
from dms.orchestrator.explaining.report import NodeReasons, Report
from dms.orchestrator.explaining.why import MAX_PEERS, PLACING, Evidence, explain_state
from dms.orchestrator.journal import DeploymentRecord
from dms.store import JournalEntry
from dms.types import gojson
from dms.types.errors import BadJSON, DMSError
from dms.types.ids import EnsembleID, PeerID

NAMESPACE = "/dms/node/deployment"


class ExplainingBehaviours:
    """Answers why, and what if."""

    def __init__(self, deployments: Deployments, root: Actor, *, random_uuid: Callable[[], uuid.UUID]) -> None:
        self._deployments = deployments
        self._planner = Planner(root, lambda: new_ensemble_id(root.network.peer_id, random_uuid()), deployments.here)

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        actor.on(f"{NAMESPACE}/plan", self._plan, payload=PlanRequest, error_reply=lambda e: PlanReply(error=e))
        actor.on(f"{NAMESPACE}/why", self._why, payload=WhyRequest, error_reply=lambda e: WhyReply(error=e))

    async def plan_for(self, config: EnsembleConfig, running: DeploymentRecord | None) -> PlanReply:
        """What would become of an ensemble, which is valid; of the deployment that would become it, if there is one."""
        return plan_reply(await self._planner.plan(config, running))

    async def _plan(self, message: Message[PlanRequest]) -> PlanReply:
        request = message.payload
        try:
            config = decode_ensemble(request.ensemble)
            check_deployable(config)
            if request.deployment:
                running: DeploymentRecord | None = find_deployment(self._deployments, request.deployment)
                if running is not None and running.state.phase.is_final:
                    raise DeploymentNotRunning(f"deployment is not running: it is {running.state.phase.value}")
            else:
                running = running_version(self._deployments.all(), config)
            return await self.plan_for(config, running)
        except DMSError as exc:
            return PlanReply(error=exc.message, hint=exc.hint)

    async def _why(self, message: Message[WhyRequest]) -> WhyReply:
        record = find_deployment(self._deployments, message.payload.id)
        entries = await self._deployments.events(record.id, 0)
        state = record.state
        return WhyReply(
            id=record.id,
            status=state.phase.value,
            problem=state.error,
            round=state.round,
            deadline=state.deadline_ns,
            report=self._report(record, entries),
        )

    def _report(self, record: DeploymentRecord, entries: tuple[JournalEntry, ...]) -> Report:
        heard = heard_in(entries)
        evidence = self._evidence(record.id)
        kept = last_report(entries)
        if record.state.phase in PLACING or (kept is None and record.state.assignment):
            return explain_state(record.config, record.state, Evidence(evidence.bids, heard=heard))
        return with_heard(kept or Report(summary=record.state.error or "no peer was looked for"), heard)

    def _evidence(self, ensemble: EnsembleID) -> Evidence:
        try:
            return self._deployments.live(ensemble).evidence
        except DeploymentNotRunning:
            return Evidence()


def plan_reply(plan: Plan) -> PlanReply:
    """A plan as it travels."""
    changes = plan.changes
    placed, kept = _cut(plan.placed), _cut(plan.kept)
    return PlanReply(
        ok=True,
        feasible=plan.is_feasible,
        deployment=plan.running or "",
        nodes=_names(changes, "nodes"),
        allocations=_names(changes, "allocations"),
        settings=changes.settings,
        problems=tuple(
            PlanProblem(path=problem.path, reason=problem.reason, hint=problem.hint)
            for problem in plan.problems[:MAX_NAMES]
        ),
        placed=placed,
        kept=kept,
        more=len(plan.placed) + len(plan.kept) - len(placed) - len(kept),
        report=plan.report,
    )


def last_report(entries: tuple[JournalEntry, ...]) -> Report | None:
    """The last one that was written into a journal, if it is understood."""
    for entry in reversed(entries):
        if entry.kind == "reasons":
            try:
                return gojson.convert(entry.payload, Report)
            except BadJSON:
                return None
    return None


def with_heard(report: Report, heard: Heard) -> Report:
    """The report with what was heard since it was made: peers that did not do what they bid for, above all."""
    rows = []
    for row in report.nodes:
        known = {reason.peer: reason for reason in row.reasons}
        news = {p: r for p, r in heard.about(row.node).items() if p not in known and p != row.peer}
        more = tuple(news.values())[: max(0, MAX_PEERS - len(known))]
        rows.append(msgspec.structs.replace(row, reasons=(*more, *row.reasons)))
    seen = {row.node for row in rows}
    rows += [
        NodeReasons(node=node, reasons=tuple(heard.about(node).values())[:MAX_PEERS])
        for node in sorted(heard.by_node.keys() - seen - {ANY_NODE})[:MAX_PEERS]
    ]
    peers = tuple(heard.about(ANY_NODE).values())[:MAX_PEERS]
    return msgspec.structs.replace(report, nodes=tuple(rows), peers=peers)


def _names(changes: Changes, what: str) -> Names:
    found = changes.nodes if what == "nodes" else changes.allocations
    return Names(added=found.added[:MAX_NAMES], removed=found.removed[:MAX_NAMES], changed=found.changed[:MAX_NAMES])


def _cut(places: Mapping[str, PeerID]) -> dict[str, PeerID]:
    return dict(sorted(places.items())[:MAX_NAMES])
