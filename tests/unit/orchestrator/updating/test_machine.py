"""An update's decisions: any event in any order, and nothing is lost, nothing doubled, and the end is truthful."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms.actor.handle import handle_of_peer
from dms.ensemble.config import EnsembleConfig
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.lifecycle import events as e
from dms.orchestrator.lifecycle.changes import records_of
from dms.orchestrator.lifecycle.machine import begin, resume, step
from dms.orchestrator.lifecycle.state import LOST, AllocationRecord, DeploymentState, Phase
from dms.orchestrator.lifecycle.state import Stage as PlacementStage
from dms.orchestrator.updating.ensembles import Ensembles
from dms.orchestrator.updating.merging import placed_names
from dms.orchestrator.updating.moves import moves_between
from dms.orchestrator.updating.rollout import batch_records
from dms.orchestrator.updating.state import Outcome, Stage, UpdateTerms
from dms.testing.actors import key_of
from dms.testing.nodes import ensemble
from dms.types import gojson
from dms.types.ids import AllocationID, EnsembleID, PeerID
from dms.types.resources import CPU, RAM, Disk, Resources

S = 10**9
ENSEMBLE = EnsembleID("e" * 64)
PEERS = [peer_id_of(key_of(f"peer {number}").public) for number in range(5)]
ROOM = Resources(cpu=CPU(cores=64.0), ram=RAM(size=1 << 40), disk=Disk(size=1 << 40))


def config(*, cores: float = 1.0, redundancy: int = 0, **nodes: str) -> EnsembleConfig:
    """Nodes with one service each; ``a="web"``. The first one may have standbys, and is moved when its machine dies."""
    whole = ensemble({node: {name: "service"} for node, name in nodes.items()}, cores=cores)
    described = {
        name: msgspec.structs.replace(node, failure_recovery="redeploy", redundancy=redundancy if name == "a" else 0)
        for name, node in whole.v1.nodes.items()
    }
    return EnsembleConfig(v1=msgspec.structs.replace(whole.v1, nodes=described))


def changed(whole: EnsembleConfig, *names: str, cores: float) -> EnsembleConfig:
    allocations = dict(whole.v1.allocations)
    for name in names:
        resources = msgspec.structs.replace(allocations[name].resources, cpu=CPU(cores=cores))
        allocations[name] = msgspec.structs.replace(allocations[name], resources=resources)
    return EnsembleConfig(v1=msgspec.structs.replace(whole.v1, allocations=allocations))


BASE = config(a="web", b="db", c="cache", redundancy=1)
TARGETS = (
    changed(BASE, "web", "db", cores=0.5),
    config(a="web", c="cache", d="more", redundancy=0),
    changed(config(a="web", b="db", d="more", redundancy=1), "web", cores=2.0),
    changed(BASE, "web", "db", "cache", cores=3.0),
    BASE,
)


class World:
    """A deployment, and machines that do as they are asked or do not."""

    def __init__(self) -> None:
        self.now_ns = 100 * S
        self.hand = Ensembles(BASE)
        self.configs = {1: BASE}
        self.state = begin(ENSEMBLE, BASE, now_ns=S, deadline_ns=90 * S)
        self.held: set[tuple[AllocationID, PeerID]] = set()
        """What peers may have: asked for, and neither given back nor ended."""
        for event in (
            e.Begun(at_ns=S),
            e.BidsCollected(at_ns=S, round=1, bids=tuple(bid(n, PEERS[i]) for i, n in enumerate(BASE.v1.nodes))),
        ):
            self.feed(event)
        self.feed(e.CommitsDone(at_ns=S, results={key: e.Committed(ok=True) for key in self.state.allocations}))
        self.feed(e.AllocatesDone(at_ns=S, results=allocated(self.state, tuple(self.state.allocations.values()))))
        self.feed(e.StartsDone(at_ns=S, results={key: e.Started(ok=True) for key in self.state.allocations}))
        assert self.state.phase is Phase.RUNNING
        self.hold(tuple(self.state.allocations.values()))

    def feed(self, event: e.Event, offered: EnsembleConfig | None = None) -> tuple[e.Instruction, ...]:
        hand = self.hand.offering(offered) if offered is not None else self.hand
        before = self.state
        before = gojson.decode(gojson.encode(before), DeploymentState)
        after, instructions = step(before, self.hand.in_force(before), event, hand.both)
        if after is before:
            return instructions
        if offered is not None and after.versions != before.versions:
            self.configs[after.versions[-1].number] = offered
        self.hand = hand.after(before, after)
        self.state = after
        if after.phase is not Phase.RUNNING:
            self.held.clear()  # all is given back, which is other tests' matter
        return instructions

    def hold(self, records: tuple[AllocationRecord, ...]) -> None:
        self.held |= {(record.id, record.peer) for record in records}

    def request(self, target: EnsembleConfig, batch: int, stops: bool) -> None:
        homes = {node: bid.peer for node, bid in self.state.assignment.items()}
        moves = moves_between(self.hand.base, target, homes)
        if stops:
            moves = msgspec.structs.replace(moves, stops=dict.fromkeys(moves.replaced[:1], "its port is taken"))
        event = e.UpdateRequested(
            at_ns=self.now_ns,
            deadline_ns=self.now_ns + 120 * S,
            moves=moves,
            terms=UpdateTerms(batch=batch),
            request=f"r{len(self.state.versions)}",
            base=self.state.version,
        )
        self.feed(event, target)

    def carry(self, kind: str, who: list[PeerID]) -> None:
        """What the shell would do for the present stage."""
        update = self.state.update
        assert update is not None
        number, ok = update.round, kind == "ok"
        match update.stage:
            case Stage.BIDDING:
                bids = tuple(bid(own, peer) for own in placed_names(update) for peer in who) if kind != "fail" else ()
                self.feed(e.UpdateBids(at_ns=self.now_ns, round=number, bids=bids))
                if self.state.update is not None and self.state.update.stage is Stage.COMMITTING:
                    self.hold(batch_records(self.state))
            case Stage.COMMITTING:
                results = {r.key: e.Committed(ok=ok, error="full") for r in batch_records(self.state)}
                self.feed(e.UpdateCommitted(at_ns=self.now_ns, round=number, results=results))
            case Stage.ALLOCATING:
                made = allocated(self.state, batch_records(self.state), ok=ok)
                self.feed(e.UpdateAllocated(at_ns=self.now_ns, round=number, results=made))
            case Stage.STARTING:
                started = {
                    r.key: e.Started(ok=ok, error="no image", is_hopeless=kind == "hopeless")
                    for r in batch_records(self.state)
                }
                self.feed(e.UpdateStarted(at_ns=self.now_ns, round=number, results=started))
            case _:
                self.now_ns = max(self.now_ns, update.due_ns)
                self.feed(e.UpdateDue(at_ns=self.now_ns, round=number))

    def mend(self, node: str, peer: PeerID) -> None:
        """What the shell would do for a node that is being placed."""
        placement = self.state.placements[node]
        number, records = placement.round, tuple(r for r in records_of(self.state, node) if not r.is_over)
        match placement.stage:
            case PlacementStage.BIDDING:
                peer = placement.only or peer
                self.feed(e.NodeBids(at_ns=self.now_ns, node=node, round=number, bids=(bid(node, peer),)))
                self.hold(tuple(r for r in records_of(self.state, node) if r.peer and not r.is_over))
            case PlacementStage.COMMITTING:
                results = {r.key: e.Committed(ok=True) for r in records}
                self.feed(e.NodeCommitted(at_ns=self.now_ns, node=node, round=number, results=results))
            case PlacementStage.ALLOCATING:
                made = allocated(self.state, records).get(node, e.Allocated(ok=True))
                self.feed(e.NodeAllocated(at_ns=self.now_ns, node=node, round=number, result=made))
            case PlacementStage.STARTING:
                started = {r.key: e.Started(ok=True) for r in records}
                self.feed(e.NodeStarted(at_ns=self.now_ns, node=node, round=number, results=started))

    def give_back(self, peer: PeerID) -> None:
        ids = tuple(one.id for one in self.state.left if one.bid.peer == peer)
        self.held -= {(id_, peer) for id_ in ids}
        self.feed(e.LeftEnded(at_ns=self.now_ns, peer=peer, ids=ids))

    def crash(self) -> None:
        before = gojson.decode(gojson.encode(self.state), DeploymentState)
        self.state, _ = resume(before, self.now_ns)
        self.hand = self.hand.after(before, self.state)


def bid(node: str, peer: PeerID) -> Bid:
    return Bid(node_id=node, peer=peer, handle=handle_of_peer(peer), free=ROOM)


def allocated(
    state: DeploymentState, records: tuple[AllocationRecord, ...], *, ok: bool = True
) -> dict[str, e.Allocated]:
    nodes: dict[str, dict[str, Any]] = {}
    for record in records:
        nodes.setdefault(record.node_id, {})[record.id] = handle_of_peer(record.peer)
    return {n: e.Allocated(ok=ok, error="" if ok else "no", handles=h if ok else {}) for n, h in nodes.items()}


KINDS = st.sampled_from(["ok", "ok", "ok", "ok", "ok", "ok", "fail", "hopeless"])


class Updates(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @property
    def state(self) -> DeploymentState:
        return self.world.state

    def is_running(self) -> bool:
        return self.state.phase is Phase.RUNNING

    def is_updating(self) -> bool:
        return self.state.is_updating

    @precondition(is_running)
    @rule(goal=st.integers(0, len(TARGETS) - 1), batch=st.integers(0, 2), stops=st.booleans())
    def request(self, goal: int, batch: int, stops: bool) -> None:
        self.world.request(TARGETS[goal], batch, stops)

    @precondition(is_updating)
    @rule(
        kind=KINDS, peers=st.lists(st.sampled_from(PEERS), min_size=3, max_size=5, unique=True), times=st.integers(1, 6)
    )
    def carry(self, kind: str, peers: list[PeerID], times: int) -> None:
        for _ in range(times):
            if self.state.is_updating:
                self.world.carry(kind, peers)

    @precondition(is_updating)
    @rule(data=st.data())
    def stale(self, data: st.DataObject) -> None:
        before = self.state
        number = before.update.round - 1 if before.update else 0
        events: list[e.Event] = [
            e.UpdateBids(at_ns=self.world.now_ns, round=number, bids=()),
            e.UpdateCommitted(at_ns=self.world.now_ns, round=number, results={}),
            e.UpdateStarted(at_ns=self.world.now_ns, round=number, results={}),
            e.UpdateDue(at_ns=self.world.now_ns + 999 * S, round=number),
        ]
        event = data.draw(st.sampled_from(events))
        self.world.feed(event)
        assert self.state.update == before.update

    @precondition(is_running)
    @rule(data=st.data(), status=st.sampled_from(["failed", "completed", "terminated"]), lost=st.booleans())
    def end(self, data: st.DataObject, status: str, lost: bool) -> None:
        keys = [k for k, r in self.state.allocations.items() if r.handle is not None and not r.is_over]
        if not keys:
            return
        record = self.state.allocations[data.draw(st.sampled_from(sorted(keys)))]
        status = "failed" if lost else status
        if not lost:
            self.world.held.discard((record.id, record.peer))
        self.world.feed(
            e.AllocationEnded(
                at_ns=self.world.now_ns,
                key=record.key,
                id=record.id,
                status=status,
                reason=LOST if lost else "",
                execution=record.execution,
            )
        )

    @precondition(is_running)
    @rule(peer=st.sampled_from(PEERS))
    def lose_peer(self, peer: PeerID) -> None:
        self.world.feed(e.PeerLost(at_ns=self.world.now_ns, peer=peer))

    @precondition(is_running)
    @rule(peer=st.sampled_from(PEERS))
    def give_back(self, peer: PeerID) -> None:
        self.world.give_back(peer)

    @precondition(is_running)
    @rule(data=st.data(), peer=st.sampled_from(PEERS), times=st.integers(1, 4))
    def mend(self, data: st.DataObject, peer: PeerID, times: int) -> None:
        if not self.state.placements:
            return
        node = data.draw(st.sampled_from(sorted(self.state.placements)))
        for _ in range(times):
            if node in self.state.placements and self.is_running():
                self.world.mend(node, peer)

    @precondition(is_running)
    @rule()
    def want_standbys(self) -> None:
        self.world.feed(e.StandbysWanted(at_ns=self.world.now_ns))

    @precondition(is_updating)
    @rule()
    def cancel(self) -> None:
        self.world.feed(e.UpdateCancelled(at_ns=self.world.now_ns))

    @precondition(is_running)
    @rule()
    def crash(self) -> None:
        self.world.crash()

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.world.now_ns += seconds * S

    @precondition(is_updating)
    @rule(ends=st.booleans())
    def shut_down(self, ends: bool) -> None:
        if not ends:
            return  # rarely, or nothing else is seen
        self.world.feed(e.ShutdownRequested(at_ns=self.world.now_ns))
        assert self.state.phase is Phase.SHUTTING_DOWN
        assert self.state.versions[-1].outcome != Outcome.PENDING.value

    @invariant()
    def nothing_is_lost(self) -> None:
        """Whatever a machine may have is known to be there, or to be told."""
        if not self.is_running():
            return
        homes = {
            (r.id, r.peer) for r in self.state.allocations.values() if r.node_id in self.state.assignment or r.is_over
        }
        left = {(one.id, one.bid.peer) for one in self.state.left}
        owed = {bid.peer for bid in self.state.owed}
        forgotten = {(id_, peer) for id_, peer in self.world.held - homes - left if peer not in owed}
        assert not forgotten, sorted(id_[64:] for id_, _ in forgotten)

    @invariant()
    def nothing_is_doubled(self) -> None:
        """What is to end is not what is to run, and no two have one id on one machine."""
        if not self.is_running():
            return
        homes = [(r.id, r.peer) for r in self.state.allocations.values() if r.peer and not r.is_over]
        assert len(homes) == len(set(homes))
        assert not set(homes) & {(one.id, one.bid.peer) for one in self.state.left}

    @invariant()
    def every_node_is_there(self) -> None:
        """The nodes of what is in force have their records under their own names, whatever else is there."""
        if not self.is_running():
            return
        force = self.world.hand.in_force(self.state)
        update = self.state.update
        begun = set(placed_names(update)) if update is not None else set()
        names = {r.node_id for r in self.state.allocations.values() if not r.is_standby}
        assert set(force.v1.nodes) - begun <= names <= set(force.v1.nodes)
        for record in self.state.allocations.values():
            assert record.name in force.v1.allocations
            if not record.is_standby:
                assert record.name in force.v1.nodes[record.node_id].allocations

    @invariant()
    def the_history_is_true(self) -> None:
        """One version is in force, and one at most is on its way."""
        state = self.state
        if not state.versions:
            return
        current = [v.number for v in state.versions if v.outcome == Outcome.CURRENT.value]
        pending = [v.number for v in state.versions if v.outcome == Outcome.PENDING.value]
        assert current == [state.version]
        assert pending == ([state.update.version] if state.is_updating and state.update else [])
        assert self.world.hand.base == self.world.configs[state.version]

    def teardown(self) -> None:
        """With machines that do as they are asked it ends: as the new version, or as the old one."""
        world = self.world
        for turn in range(400):
            if world.state.phase is not Phase.RUNNING or (world.state.update is None and not world.state.placements):
                break
            world.now_ns += S
            for peer in PEERS:
                world.give_back(peer)
            for node in list(world.state.placements):
                if node in world.state.placements:
                    world.mend(node, PEERS[turn % len(PEERS)])
            if world.state.is_updating:
                world.carry("ok", PEERS)
            self.nothing_is_lost()
            self.nothing_is_doubled()
            self.every_node_is_there()
            self.the_history_is_true()
        else:
            raise AssertionError(f"it does not end: {world.state.update} {world.state.placements}")


TestUpdates = Updates.TestCase
TestUpdates.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
