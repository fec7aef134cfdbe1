"""``/dms/node/doctor/work``: the owner asks why this machine gets no work. Ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.capability.context import CapabilityContext
from dms.capability.paths import any_implies
from dms.hardware.clock import ClockState, clock_state
from dms.node.diagnosis import Admits, Facts, diagnose, summary
from dms.node.doctor_payloads import DEFAULT_HOURS, DOCTOR_WORK, DoctorReply, DoctorRequest
from dms.node.hosting import Hosting
from dms.node.provider import Provider
from dms.node.worklog import MAX_HOURS
from dms.orchestrator.messages import BID_REQUEST, BID_REQUEST_TOPIC
from dms.resources.manager import ResourceManager
from dms.types.resources import Location

HOUR_NS = 3600 * 10**9


class DoctorBehaviours:
    """Looks at this machine as whoever wants to use it does."""

    def __init__(
        self,
        provider: Provider,
        resources: ResourceManager,
        hosting: Hosting,
        *,
        location: Callable[[], Location],
        missing: Mapping[str, str],
        clock: Callable[[], ClockState] = clock_state,
    ) -> None:
        self._provider = provider
        self._resources = resources
        self._hosting = hosting
        self._location = location
        self._missing = missing
        self._clock = clock

    def register(self, actor: Actor) -> None:
        """Answer on the root actor."""

        async def on_work(message: Message[DoctorRequest | None]) -> DoctorReply:
            hours = message.payload.hours if message.payload is not None else 0
            return await self.examine(actor, hours or DEFAULT_HOURS)

        payload: Any = DoctorRequest | None
        actor.on(DOCTOR_WORK, on_work, payload=payload, error_reply=lambda error: DoctorReply(error=error))

    async def examine(self, actor: Actor, hours: int) -> DoctorReply:
        """All findings about the last hours."""
        hours = min(max(1, hours), MAX_HOURS)
        now_ns, work = actor.security.now_ns(), self._provider.bidder.work
        since_ns = now_ns - hours * HOUR_NS
        offer = await self._provider.offerings()
        facts = Facts(
            hours=hours,
            is_ready=self._provider.is_recovered,
            onboarded=self._resources.onboarded,
            free=offer.free if offer is not None else None,
            hosted=sum(1 for allocation in self._hosting if not allocation.view.state.is_final),
            executors=self._provider.executors,
            missing=self._missing,
            peers=len(actor.network.peers()),
            admits=who_is_admitted(actor.security.capabilities),
            location=self._location(),
            clock=self._clock(),
            expired=actor.counters["dropped.message_expired"],
            counts=work.counts(now_ns, hours),
            requests=work.requests(since_ns),
            strangers=work.strangers(since_ns),
        )
        findings = diagnose(facts)
        return DoctorReply(
            ok=True,
            summary=summary(findings),
            hours=hours,
            findings=findings,
            counts=dict(facts.counts),
            requests=facts.requests,
            strangers=facts.strangers,
        )


def who_is_admitted(capabilities: CapabilityContext) -> Admits:
    """Whether some anchor lets somebody beside the roots broadcast a bid request, or send one."""
    roots, require, _, _ = capabilities.list_roots()
    for token in require.tokens:
        held = token.levels[0] if token.is_well_formed else None
        if held is None or not any_implies(held.caps, BID_REQUEST):
            continue
        if not held.topics or any_implies(held.topics, BID_REQUEST_TOPIC):
            return Admits.OTHERS
    return Admits.OWNER if roots else Admits.NOBODY
