"""One deployment alive: carries out what the machine says and feeds it what happens.

A single loop takes events one after another. Each is written to the journal together with the state that follows from
it; only then does the new state show, is the event acknowledged to whoever reported it, and are the instructions carried
out, in a task beside the loop, so that a shutdown can interrupt them.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import trio

from dms.actor.actor import Actor
from dms.actor.handle import Handle
from dms.ensemble.config import EnsembleConfig
from dms.observe import get_logger
from dms.observe.tracing import span
from dms.orchestrator import effects, messages
from dms.orchestrator.bidding.asking import Context, Here, nowhere
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.bids import BidBook, collect_bids
from dms.orchestrator.bidding.edges import measure_edges
from dms.orchestrator.bidding.heard import heard_from
from dms.orchestrator.errors import NotAllocated
from dms.orchestrator.explaining.why import PLACING, Evidence, explain_state
from dms.orchestrator.inbox import Inbox
from dms.orchestrator.journal import DeploymentRecord, Journal, changes
from dms.orchestrator.lifecycle.events import (
    Allocate,
    AllocatesDone,
    AwaitTurn,
    Begun,
    BidsCollected,
    CarryUpdate,
    CollectBids,
    Commit,
    CommitsDone,
    EdgesMeasured,
    EndLeft,
    EndLost,
    FetchLogs,
    Finish,
    GivenUp,
    HealthChanged,
    Instruction,
    MeasureEdges,
    Place,
    PlaceStandbys,
    Restart,
    Revert,
    Reverted,
    Settled,
    ShutdownAll,
    ShutdownDone,
    ShutdownRequested,
    StandbysWanted,
    StartAll,
    StartsDone,
    Supervise,
    UpdateRequested,
)
from dms.orchestrator.lifecycle.machine import resume, step
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.orchestrator.logs.finding import LogShelf
from dms.orchestrator.logs.reading import LogReader
from dms.orchestrator.orders import Orders
from dms.orchestrator.private_network.telling import Teller
from dms.orchestrator.provider_grants import ProviderGrants
from dms.orchestrator.reports import Reports
from dms.orchestrator.scheduling.queueing import Turnstile
from dms.orchestrator.starting import Live, start_all
from dms.orchestrator.supervision.peer_watch import PeerWatch
from dms.orchestrator.supervision.supervisor import LIVENESS_TIMEOUT_S, Supervision
from dms.orchestrator.updating.carrying import Carrier
from dms.orchestrator.updating.ensembles import Ensembles, is_same_mix
from dms.subnet.messages import NetworkReport
from dms.types import gojson
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import Resources

NS_PER_S = 10**9

R = TypeVar("R")
T = TypeVar("T")

log = get_logger(__name__)

STARTED = (Phase.PROVISIONING, Phase.RUNNING)
"""Phases in which allocations are there, and may be mended."""


class Deployment:
    """An orchestrator: an actor that owns one ensemble."""

    def __init__(
        self,
        record: DeploymentRecord,
        actor: Actor,
        journal: Journal,
        *,
        logs: LogShelf,
        liveness_timeout_s: float = LIVENESS_TIMEOUT_S,
        watch: PeerWatch | None = None,
        queue: Turnstile | None = None,
        choose_network: Callable[[DeploymentState], Awaitable[str]],
        on_change: Callable[[DeploymentState], None] = lambda _state: None,
        own_machine: Callable[[], Handle | None] = lambda: None,
        here: Here = nowhere,
    ) -> None:
        """``own_machine``: where to tell this node itself of the private network, if it can be told of one."""
        self.id: EnsembleID = record.id
        self.state: DeploymentState = record.state
        self._ensembles = record.ensembles
        self.config: EnsembleConfig = record.config
        """What is in force; of two versions, while it becomes another one."""
        self.actor = actor
        self.changed = trio.Event()
        """Set and replaced with every step; wait on it to follow the deployment."""
        self._journal = journal
        self._queue = queue
        self._choose_network = choose_network
        self._on_change = on_change
        self._context = Context(self.id, self.config, actor, self._note, here=here)
        self.logs = LogReader(logs, lambda: self._context, lambda: self.state)
        self._book = BidBook()
        self._inbox = Inbox()
        self.orders = Orders(lambda: self.state, self._inbox, self._now)
        """What users and schedules demand of it."""
        self._own_machine = own_machine
        self._network = Teller(lambda: self._context, lambda: self.state, lambda: self.changed, self._joining)
        self._live = Live(
            lambda: self.state,
            lambda: self.changed,
            lambda key: self._supervision.silence_s(key),
            liveness_timeout_s,
            self._network.tell,
            self._tell_unwell,
        )
        self._providers = ProviderGrants(self.id, actor, lambda: self.state)
        self._supervision = Supervision(
            self._context,
            self._live,
            self._inbox.post,
            self._providers.renew,
            keep_logs=self.logs.keep,
            watch=watch,
        )
        self._reports = Reports(
            self.id, actor, lambda: self.state, self._inbox.post, self._note, self._supervision.heard
        )
        self._carrier = Carrier(
            lambda: self._context,
            lambda: self._ensembles.both,
            self._live,
            self._inbox.post,
            self._providers.renew,
            bidding=self._supervision.bidding,
            turn=self._await_turn,
            heard=self._supervision.heard,
        )
        self._work: trio.CancelScope | None = None
        self._mending: set[trio.CancelScope] = set()
        self.was_driven = False
        """Whether :meth:`run` was begun before, in this life of the process."""

    # what others see -----------------------------------------------------------------------------------------------

    async def ask(self, key: str, behaviour: str, payload: object, reply: type[R], *, timeout_s: float) -> R:
        """Invoke a behaviour of an allocation's actor.

        :raises NotAllocated: there is none, or no more.
        :raises DMSError: it does not answer.
        """
        record = self.state.allocations[key]
        if record.handle is None or record.is_over:
            raise NotAllocated(f"{key} is {record.status}", hint="it must run for this")
        return await self.actor.invoke(record.handle, behaviour, payload, reply, timeout_s=timeout_s)

    async def note(self, kind: str, detail: dict[str, object]) -> None:
        """Write something that was done from outside into its events."""
        await self._note(kind, detail)

    def private_address(self, key: str) -> str:
        """Of an allocation, in the ensemble's own network; empty where it has none."""
        record = self.state.allocations.get(key)
        return self._network.address(record) if record is not None and not self.network_problem(key) else ""

    def network_problem(self, key: str) -> str:
        """Why an allocation that runs has no address of its own; empty where it has one, or nothing is known of it."""
        record, sign = self.state.allocations.get(key), self._reports.signs.get(key)
        if record is None or record.is_over:
            return ""
        return (sign.network_problem if sign is not None else "") or self._network.problem(record)

    @property
    def joins(self) -> bool:
        """Whether this node itself is to be a member of the private network."""
        subnet = self.config.v1.subnet
        return subnet is not None and subnet.join

    def private_names(self) -> dict[str, str]:
        """The addresses of all names in the private network, as planned now."""
        return self._network.names()

    async def network_reports(self) -> dict[PeerID, NetworkReport]:
        """What each machine knows of the private network, and what passed there."""
        return await self._network.reports()

    def last_sign(self, key: str) -> messages.Liveness | None:
        """The last sign of life of an allocation that was heard in this life of the process."""
        return self._reports.signs.get(key)

    @property
    def base(self) -> EnsembleConfig:
        """The version in force, as if there were no update."""
        return self._ensembles.base

    @property
    def record(self) -> DeploymentRecord:
        """All of it that is stored."""
        return DeploymentRecord(self.id, self.config, self.state, self._ensembles)

    @property
    def evidence(self) -> Evidence:
        """What tells why the nodes are where they are, as far as it is in memory."""
        return Evidence(tuple(self._book), heard=heard_from(self._context.hearing))

    # life ----------------------------------------------------------------------------------------------------------

    async def run(self, *, is_restored: bool = False) -> None:
        """Drive it to its end."""
        self._reports.register()
        self._providers.renew()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._network.run)
            if is_restored:
                state, instructions = resume(self.state, self._now())
                await self._journal.write(self.id, state, "restored", changes(self.state, state))
                self.state = state
                self._announce()
                is_over = await self._go_on(nursery, instructions)
            else:
                self._inbox.post(Begun(at_ns=self._now()))
                is_over = False
            while not is_over:
                is_over = await self._take_one(nursery)
            nursery.cancel_scope.cancel()
        # only after a proper end: cancelled, what is still queued was not taken
        self._inbox.close()

    async def give_up(self, failure: BaseException) -> None:
        """Nobody drives it any more: it has failed, and says so. What it holds elsewhere is given back by another
        :meth:`run`, as after a restart.
        """
        error = f"given up by this node: {_innermost(failure)!r}"
        event, before = GivenUp(at_ns=self._now(), error=error), self.state
        after, _ = step(before, self.config, event, self._ensembles.both)
        if after is not before:
            try:
                await self._journal.write_event(self.id, event, before, after, self._ensembles)
            except Exception:  # it may be the very reason
                log.exception("end_not_recorded", ensemble=self.id)
            self.state = after
        self._inbox.close()
        self._announce()

    async def _take_one(self, nursery: trio.Nursery) -> bool:
        """One event; whether it was the last."""
        posted = await self._inbox.receive()
        event, before = posted.event, self.state
        ensembles = self._ensembles
        if isinstance(event, UpdateRequested):
            assert posted.written is not None
            ensembles = ensembles.offering(posted.written)
        after, instructions = step(before, self.config, event, ensembles.both)
        if after is before and not instructions:
            posted.taken.set()
            return False
        await self._journal.write_event(self.id, event, before, after, ensembles)
        self._take_up(before, after, ensembles)
        posted.taken.set()
        self._announce()
        self._supervision.changed()
        if before.phase in PLACING and after.phase not in PLACING:
            await self._note("reasons", gojson.to_builtins(explain_state(self.config, after, self.evidence)))
        if isinstance(event, ShutdownRequested) and self._work is not None:
            self._work.cancel()
        if before.phase in STARTED and after.phase not in STARTED:
            for scope in self._mending:
                scope.cancel()
            self._supervision.cancel()
        return await self._go_on(nursery, instructions)

    async def _go_on(self, nursery: trio.Nursery, instructions: tuple[Instruction, ...]) -> bool:
        """Have the instructions carried out; whether they were the last."""
        if not any(isinstance(i, Finish) for i in instructions):
            self._carry_out(nursery, instructions)
            return False
        await self._finish(instructions)
        return True

    def _carry_out(self, nursery: trio.Nursery, instructions: tuple[Instruction, ...]) -> None:
        """Logs and supervision run beside; the rest in order, in a scope that a shutdown can cancel."""
        main: list[Instruction] = []
        for instruction in instructions:
            match instruction:
                case FetchLogs(key):
                    nursery.start_soon(self.logs.fetch_quietly, key)
                case EndLost(key):
                    nursery.start_soon(effects.end_lost, self._context, self.state, key)
                case Supervise():
                    nursery.start_soon(self._supervision.run)
                case Restart(keys):
                    nursery.start_soon(self._beside, self._supervision.restart, keys)
                case Place(node):
                    nursery.start_soon(self._beside, self._supervision.place, node)
                case CarryUpdate():
                    nursery.start_soon(self._beside, self._carry_update, None)
                case PlaceStandbys():
                    if any(node.redundancy for node in self.config.v1.nodes.values()):
                        self._inbox.post(StandbysWanted(at_ns=self._now()))
                case EndLeft():
                    nursery.start_soon(self._supervision.end_left)
                case _:
                    main.append(instruction)
        if main:
            nursery.start_soon(self._perform_all, main)

    async def _carry_update(self, _about: None) -> None:
        await self._carrier.carry()

    async def _beside(self, perform: Callable[[T], Awaitable[None]], about: T) -> None:
        """What mends a running deployment is interrupted when that runs no more."""
        with trio.CancelScope() as scope:
            self._mending.add(scope)
            try:
                await perform(about)
            finally:
                self._mending.discard(scope)

    async def _perform_all(self, instructions: list[Instruction]) -> None:
        with trio.CancelScope() as self._work:
            for instruction in instructions:
                with span(type(instruction).__name__, ensemble=self.id, peer=self.actor.handle.addr.host):
                    await self._perform(instruction)

    async def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case AwaitTurn():
                await self._await_turn()
            case CollectBids(number):
                await self._note("bids_requested", {"round": number})
                async with self._supervision.bidding:
                    bids = await collect_bids(self._context, self.state, secrets.token_hex(12), self._book)
                gives_way = self._queue is not None and self._queue.gives_way(self.id, _free_of(bids))
                self._inbox.post(BidsCollected(at_ns=self._now(), round=number, bids=bids, gives_way=gives_way))
            case MeasureEdges(number, pairs):
                measured = await measure_edges(self._context, self.state, pairs)
                self._inbox.post(EdgesMeasured(at_ns=self._now(), round=number, pairs=measured))
            case Commit():
                self._providers.renew()
                results = await effects.commit_all(self._context, self.state)
                self._inbox.post(CommitsDone(at_ns=self._now(), results=results))
            case Allocate():
                allocated = await effects.allocate_all(self._context, self.state)
                network = await self._choose_network(self.state)
                self._inbox.post(AllocatesDone(at_ns=self._now(), results=allocated, network=network))
            case StartAll():
                self._providers.renew()
                started = await start_all(self._context, self.state, self._live)
                self._inbox.post(StartsDone(at_ns=self._now(), results=started))
            case Revert(bids):
                self._book.drop(bid.peer for bid in bids)
                peers = await effects.revert(self._context, bids)
                self._inbox.post(Reverted(at_ns=self._now(), peers=peers))
            case ShutdownAll():
                unreached, lost = await effects.shutdown_all(self._context, self.state)
                self._inbox.post(ShutdownDone(at_ns=self._now(), unreached=unreached, lost=lost))
            case _:
                raise AssertionError(instruction)

    async def _await_turn(self) -> None:
        """Wait until this deployment may ask for capacity that others wait for, too."""
        state = self.state
        since_ns = state.update.begun_ns if state.update is not None else state.queued_ns or state.created_ns
        if self._queue is not None:
            await self._queue.turn(self.id, state.owner, since_ns)

    async def _finish(self, instructions: tuple[Instruction, ...]) -> None:
        """What is left to do after the end: logs first, as a revert takes them away."""
        async with trio.open_nursery() as nursery:
            for key, record in self.state.allocations.items():
                if record.handle is not None:
                    nursery.start_soon(self.logs.fetch_quietly, key)
        for instruction in instructions:
            match instruction:
                case Revert(bids):
                    await effects.revert(self._context, bids)
                case EndLost(key):
                    await effects.end_lost(self._context, self.state, key)
                case EndLeft():
                    await self._supervision.end_left()
                case _:
                    continue
        event, before = Settled(at_ns=self._now()), self.state
        after, _ = step(before, self.config, event, self._ensembles.both)
        await self._journal.write_event(self.id, event, before, after, self._ensembles)
        self.state = after
        self._announce()

    async def _tell_unwell(self, key: str, problem: str) -> None:
        event = HealthChanged(at_ns=self._now(), key=key, problem=problem, is_failure=True)
        await self._inbox.post(event).wait()

    def _joining(self) -> Handle | None:
        return self._own_machine() if self.joins else None

    # bookkeeping ---------------------------------------------------------------------------------------------------

    def _take_up(self, before: DeploymentState, after: DeploymentState, ensembles: Ensembles) -> None:
        """What is on disk is so now."""
        self.state, self._ensembles = after, ensembles.after(before, after)
        if is_same_mix(before, after):
            return
        self.config = self._ensembles.in_force(after)
        self._context = replace(self._context, config=self.config)
        self._supervision.use(self._context)
        for key, record in after.allocations.items():
            known = before.allocations.get(key)
            if record.handle is not None and (known is None or known.handle != record.handle):
                self._supervision.heard(key)  # under another name

    async def _note(self, kind: str, detail: dict[str, object]) -> None:
        await self._journal.write(self.id, None, kind, detail)
        self._announce()

    def _announce(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
        self._on_change(self.state)

    def _now(self) -> int:
        return self.actor.security.now_ns()


def _innermost(failure: BaseException) -> BaseException:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure


def _free_of(bids: Iterable[Bid]) -> dict[PeerID, Resources]:
    """What those have free that bid, as far as they said it."""
    return {bid.peer: bid.free or Resources() for bid in bids}
