"""The shell of supervision: watches the allocations of one running deployment, restarts them, places nodes anew.

Decisions are :mod:`dms.orchestrator.lifecycle.recovery`'s. What is noticed here becomes an event; what is done
here was on disk before, may be done twice, and ends in an event.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import trio

from dms.allocation import messages as allocation_messages
from dms.allocation.machine import AllocationState
from dms.ensemble.start_order import independent_parts, start_layers
from dms.orchestrator import effects, messages
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.bids import BidBook, collect_bids
from dms.orchestrator.bidding.edges import measure_edges
from dms.orchestrator.insisting import insist
from dms.orchestrator.lifecycle.events import (
    AllocationEnded,
    Event,
    LeftEnded,
    NodeAllocated,
    NodeBids,
    NodeCommitted,
    NodeMeasured,
    NodeStarted,
    PeerLost,
    Restarted,
    RestartsDone,
)
from dms.orchestrator.lifecycle.placing import asked_of, pairs_to_measure, wanted_of
from dms.orchestrator.lifecycle.state import LOST, AllocationRecord, DeploymentState, Left, Placement, Stage
from dms.orchestrator.starting import START_TIMEOUT_S, Live, start_all
from dms.orchestrator.supervision.health import HealthChecks
from dms.orchestrator.supervision.peer_watch import PeerWatch
from dms.orchestrator.updating.rollout import is_starting
from dms.types.errors import DMSError
from dms.types.ids import AllocationID, PeerID

LIVENESS_TIMEOUT_S = 100.0
"""Three signs of life at the usual 30 s may be missed before an allocation counts as lost."""
TELL_TIMEOUT_S = 15.0
TELL_AGAIN_S, MAX_TELL_AGAIN_S = 1.0, 30.0
"""Between two attempts, doubled with each: a provider that is being started again is back in a moment."""
KEEPING_S = 10.0
"""So long the logs of what ends on a machine may hold up its end."""
NS_PER_S = 10**9
GONE = frozenset({"already_ended"})
"""Error codes of a restart that no other try can mend: the provider has nothing to restart."""


class Supervision:
    """Watches and mends while the deployment runs."""

    def __init__(
        self,
        context: Context,
        live: Live,
        post: Callable[[Event], object],
        grant: Callable[[], None],
        *,
        keep_logs: Callable[[Left], Awaitable[str]],
        watch: PeerWatch | None = None,
    ) -> None:
        self._keep_logs = keep_logs
        self.bidding = trio.Lock()
        """One round of bids at a time: they all come under the same name."""
        self._context, self._live, self._post, self._grant = context, live, post, grant
        self._state = live.state
        self._health = HealthChecks(context, live.state, post)
        self._watch_peers = watch
        self._followed: tuple[object, object] = (None, None)
        self._seen: dict[str, float] = {}
        self._restarting: set[str] = set()
        self._placing: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._woken = trio.Event()

    # what the deployment says --------------------------------------------------------------------------------------

    def heard(self, key: str) -> None:
        """There is a sign of life."""
        self._seen[key] = trio.current_time()

    def silence_s(self, key: str) -> float:
        """For how long no sign of life was heard of an allocation; endless before the first."""
        return trio.current_time() - self._seen.get(key, -math.inf)

    def use(self, context: Context) -> None:
        """Another version of the ensemble is in force."""
        self._context = context
        self._health.use(context)

    def changed(self) -> None:
        """There is a new state."""
        self._woken.set()
        if self._nursery is not None:
            self._health.follow(self._nursery)
            self._follow_peers()

    def cancel(self) -> None:
        """The deployment does not run any more."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
            self._nursery = None
        if self._watch_peers is not None:
            self._watch_peers.forget(self._context.ensemble)
        self._followed = (None, None)

    async def run(self) -> None:
        """Watch, until cancelled."""
        self.cancel()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._watch)
            self._nursery.start_soon(self._tell_again)
            self._health.restart(self._nursery)
            self._follow_peers()

    # providers -----------------------------------------------------------------------------------------------------

    def _follow_peers(self) -> None:
        """Have those watched that host something, or shall know that they host nothing."""
        state = self._state()
        if self._watch_peers is None or (self._followed[0] is state.assignment and self._followed[1] is state.left):
            return
        self._followed = (state.assignment, state.left)
        peers = {bid.peer for bid in state.assignment.values()} | {one.bid.peer for one in state.left}
        self._watch_peers.follow(self._context.ensemble, peers, self._on_peer_lost, self._on_peer_back)

    def _on_peer_lost(self, peer: PeerID, why: str) -> None:
        self._post(PeerLost(at_ns=self._now(), peer=peer, why=why))

    def _on_peer_back(self, peer: PeerID) -> None:
        if self._nursery is not None and any(one.bid.peer == peer for one in self._state().left):
            self._nursery.start_soon(self.end_left)

    # signs of life -------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """An allocation of which nothing is heard for too long counts as failed."""
        begun = trio.current_time()
        while True:
            await trio.sleep(self._live.liveness_timeout_s / 4)
            for key, record in self._state().allocations.items():
                silence_s = trio.current_time() - max(begun, self._seen.get(key, begun))
                if record.is_over or record.handle is None or silence_s < self._live.liveness_timeout_s:
                    continue
                if key in self._restarting or record.node_id in self._placing:
                    continue
                if is_starting(self._state(), record.node_id):
                    continue
                self._post(
                    AllocationEnded(
                        at_ns=self._now(),
                        key=key,
                        id=record.id,
                        status=AllocationState.FAILED.value,
                        error=f"no sign of life from {record.peer} for {silence_s:.0f} s",
                        reason=LOST,
                    )
                )

    # restarts ------------------------------------------------------------------------------------------------------

    async def restart(self, keys: tuple[str, ...]) -> None:
        """Restart these when they are due, layer by layer of their dependencies; what has none side by side."""
        records = [r for key in keys if (r := self._state().allocations.get(key)) is not None and r.due_ns]
        if not records:
            return
        await self._sleep_until(max(record.due_ns for record in records))
        by_name = {record.name: record.key for record in records}
        async with trio.open_nursery() as nursery:
            for part in independent_parts(self._context.config, by_name):
                nursery.start_soon(self._restart_part, part, by_name)

    async def _restart_part(self, names: tuple[str, ...], by_name: dict[str, str]) -> None:
        for layer in start_layers(self._context.config, names):
            keys = [by_name[name] for name in layer]
            results: dict[str, Restarted] = {}
            async with trio.open_nursery() as nursery:
                for key in keys:
                    nursery.start_soon(self._restart_one, key, results)
            if results:
                self._post(RestartsDone(at_ns=self._now(), results=results))

    async def _restart_one(self, key: str, results: dict[str, Restarted]) -> None:
        record = self._state().allocations.get(key)
        if record is None or not record.due_ns or record.handle is None:
            return
        request = allocation_messages.RestartRequest(number=record.execution)
        self._restarting.add(key)
        try:
            reply = await insist(
                self._context.actor,
                record.handle,
                allocation_messages.RESTART,
                request,
                allocation_messages.StartReply,
                timeout_s=START_TIMEOUT_S,
            )
        except DMSError as exc:
            results[key] = Restarted(ok=False, error=exc.message, is_unreached=True)
            return
        finally:
            self._restarting.discard(key)
        self.heard(key)
        results[key] = Restarted(
            ok=reply.ok,
            error=reply.error,
            execution=max(request.number, reply.execution),  # where there is none it tells of the last one
            is_gone=reply.code in GONE,
        )

    # placing nodes -------------------------------------------------------------------------------------------------

    async def place(self, node: str) -> None:
        """Carry out the stage in which the placement of a node is; whatever was done for it before is cancelled."""
        former = self._placing.get(node)
        if former is not None:
            former.cancel()
        with trio.CancelScope() as scope:
            self._placing[node] = scope
            try:
                placement = self._state().placements.get(node)
                if placement is not None:
                    await self._place(node, placement)
            finally:
                if self._placing.get(node) is scope:
                    del self._placing[node]

    async def _place(self, node: str, placement: Placement) -> None:
        number = placement.round
        match placement.stage:
            case Stage.BIDDING | Stage.CHECKING:
                await self._sleep_until(placement.due_ns)
                async with self.bidding:
                    await self._context.note("bids_requested", {"node": node, "round": placement.round})
                    ctx, state = self._asking(node)
                    bids: tuple[Bid, ...] = await collect_bids(ctx, state, secrets.token_hex(12), BidBook())
                self._post(NodeBids(at_ns=self._now(), bids=bids, node=node, round=number))
            case Stage.MEASURING:
                ctx, state = self._asking(node)
                pairs = pairs_to_measure(self._state(), self._context.config, node)
                measured = await measure_edges(ctx, msgspec.structs.replace(state, heard=placement.heard), pairs)
                self._post(NodeMeasured(at_ns=self._now(), pairs=measured, node=node, round=number))
            case Stage.COMMITTING:
                self._grant()
                committed = await effects.commit_all(*self._narrow(node))
                self._post(NodeCommitted(at_ns=self._now(), results=committed, node=node, round=number))
            case Stage.ALLOCATING:
                allocated = await effects.allocate_all(*self._narrow(node))
                self._post(NodeAllocated(at_ns=self._now(), result=allocated[node], node=node, round=number))
            case Stage.STARTING:
                ctx, state = self._narrow(node)
                started = await start_all(ctx, state, self._live)
                for key in started:
                    self.heard(key)
                self._post(NodeStarted(at_ns=self._now(), results=started, node=node, round=number))

    def _narrow(self, node: str) -> tuple[Context, DeploymentState]:
        """The deployment as if it were about this one node."""
        state = self._state()
        config, _ = wanted_of(state, self._context.config, node)
        records: dict[str, AllocationRecord] = {
            key: record for key, record in state.allocations.items() if record.node_id == node and not record.is_over
        }
        narrow = msgspec.structs.replace(
            state,
            allocations=records,
            assignment={node: state.assignment[node]} if node in state.assignment else {},
            deadline_ns=self._now() + int(START_TIMEOUT_S * NS_PER_S),
        )
        return replace(self._context, config=config, whole=self._context.config), narrow

    def _asking(self, node: str) -> tuple[Context, DeploymentState]:
        """The same, with those next to it."""
        ctx, state = self._narrow(node)
        return replace(ctx, config=asked_of(self._state(), self._context.config, node)), state

    # what was left behind ------------------------------------------------------------------------------------------

    async def end_left(self) -> None:
        """Tell every peer with remains, once; those that answer have none any more."""
        left: dict[PeerID, list[AllocationID]] = {}
        handles, kept = {}, dict[PeerID, list[Left]]()
        for one in self._state().left:
            if one.version:
                kept.setdefault(one.bid.peer, []).append(one)
            left.setdefault(one.bid.peer, []).append(one.id)
            handles[one.bid.peer] = one.bid.handle

        async def tell(peer: PeerID) -> None:
            unread = await self._keep_all(kept.get(peer, []))
            request = messages.RevertRequest(ensemble_id=self._context.ensemble, allocation_ids=tuple(left[peer]))
            try:
                reply = await self._context.actor.invoke(
                    handles[peer], messages.REVERT, request, messages.Reply, timeout_s=TELL_TIMEOUT_S
                )
            except DMSError:
                return  # it is told again
            if not reply.ok:
                return
            for one, why in unread:
                detail: dict[str, object] = {"allocation": one.key, "reason": f"of version {one.version}: {why}"}
                await self._context.note("logs_not_fetched", detail)
            self._post(LeftEnded(at_ns=self._now(), peer=peer, ids=tuple(left[peer])))

        async with trio.open_nursery() as nursery:
            for peer in left:
                nursery.start_soon(tell, peer)

    async def _keep_all(self, ending: list[Left]) -> list[tuple[Left, str]]:
        """Copy the logs of these; of which that was not possible, and why. Where one takes long the others do, too."""
        unread = []
        began = trio.current_time()
        for one in ending:
            why = await self._keep_logs(one) if trio.current_time() - began < KEEPING_S else "it takes too long"
            if why:
                unread.append((one, why))
        return unread

    async def _tell_again(self) -> None:
        while True:
            if not self._state().left:
                self._woken = trio.Event()
                await self._woken.wait()
                continue
            wait_s = TELL_AGAIN_S
            while self._state().left:
                await trio.sleep(wait_s)
                await self.end_left()
                wait_s = min(2 * wait_s, MAX_TELL_AGAIN_S)

    async def _sleep_until(self, at_ns: int) -> None:
        await trio.sleep(max(0.0, (at_ns - self._now()) / NS_PER_S))

    def _now(self) -> int:
        return self._context.actor.security.now_ns()
