"""The shell of an update: asks for bids, reserves, allocates and starts what it adds, and says when to look again.

What is done here follows from the state, was on disk before, may be done twice, and ends in an event.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import trio

from dms.orchestrator import effects
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.bidding.bids import BidBook, collect_bids
from dms.orchestrator.bidding.edges import measure_edges
from dms.orchestrator.lifecycle.changes import with_changes
from dms.orchestrator.lifecycle.events import (
    Event,
    UpdateAllocated,
    UpdateBids,
    UpdateCommitted,
    UpdateDue,
    UpdateMeasured,
    UpdateStarted,
)
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.orchestrator.starting import Live, start_all
from dms.orchestrator.updating import rollout
from dms.orchestrator.updating.merging import part_placed, placed_names
from dms.orchestrator.updating.state import Stage, Update
from dms.orchestrator.updating.turning import Both

NS_PER_S = 10**9


class Carrier:
    """Carries out the stages of one deployment's updates."""

    def __init__(
        self,
        context: Callable[[], Context],
        both: Callable[[], Both | None],
        live: Live,
        post: Callable[[Event], object],
        grant: Callable[[], None],
        *,
        bidding: trio.Lock,
        turn: Callable[[], Awaitable[None]],
        heard: Callable[[str], None],
    ) -> None:
        self._context, self._both, self._live, self._post, self._grant = context, both, live, post, grant
        self._bidding, self._turn, self._heard = bidding, turn, heard
        self._scope: trio.CancelScope | None = None

    async def carry(self) -> None:
        """Carry out the stage in which the update is; whatever was done for it before is cancelled."""
        if self._scope is not None:
            self._scope.cancel()
        with trio.CancelScope() as scope:
            self._scope = scope
            try:
                state, both = self._live.state(), self._both()
                if state.update is not None and both is not None:
                    await self._carry(state, state.update, both)
            finally:
                if self._scope is scope:
                    self._scope = None

    async def _carry(self, state: DeploymentState, update: Update, both: Both) -> None:
        context, number = self._context(), update.round
        match update.stage:
            case Stage.STOPPING | Stage.VERIFYING:
                await self._sleep_until(update.due_ns)
                self._post(UpdateDue(at_ns=max(self._now(), update.due_ns), round=number))
            case Stage.BIDDING:
                await self._sleep_until(update.due_ns)
                if self._now() < update.terms.queue_until_ns and not update.is_back:
                    await self._turn()
                async with self._bidding:
                    state = self._live.state()
                    await context.note("bids_requested", {"nodes": list(placed_names(update))[:50], "round": number})
                    part = rollout.asked_for(state, context.config, both)
                    asked = replace(context, config=part, whole=context.config)
                    bids = await collect_bids(asked, state, secrets.token_hex(12), BidBook())
                self._post(UpdateBids(at_ns=self._now(), round=number, bids=bids))
            case Stage.MEASURING:
                part = rollout.asked_for(state, context.config, both)
                pairs = rollout.pairs_to_measure(state, context.config, both)
                asked = replace(context, config=part, whole=context.config)
                measured = await measure_edges(asked, with_changes(state, heard=update.heard), pairs)
                self._post(UpdateMeasured(at_ns=self._now(), round=number, pairs=measured))
            case Stage.COMMITTING:
                self._grant()
                committed = await effects.commit_all(*self._narrow(context, state, update))
                self._post(UpdateCommitted(at_ns=self._now(), round=number, results=committed))
            case Stage.ALLOCATING:
                allocated = await effects.allocate_all(*self._narrow(context, state, update))
                self._post(UpdateAllocated(at_ns=self._now(), round=number, results=allocated))
            case Stage.STARTING:
                self._grant()
                started = await start_all(*self._narrow(context, state, update), self._live)
                for key in started:
                    self._heard(key)
                self._post(UpdateStarted(at_ns=self._now(), round=number, results=started))

    def _narrow(self, context: Context, state: DeploymentState, update: Update) -> tuple[Context, DeploymentState]:
        """The deployment as if it were about the batch alone."""
        names = placed_names(update)
        narrow = msgspec.structs.replace(
            state,
            allocations={key: record for key, record in state.allocations.items() if record.node_id in names},
            assignment={node: bid for node, bid in state.assignment.items() if node in names},
            deadline_ns=update.deadline_ns,
        )
        return replace(context, config=part_placed(context.config, update), whole=context.config), narrow

    async def _sleep_until(self, at_ns: int) -> None:
        await trio.sleep(max(0.0, (at_ns - self._now()) / NS_PER_S))

    def _now(self) -> int:
        return self._context().actor.security.now_ns()
