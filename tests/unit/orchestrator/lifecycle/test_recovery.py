"""Recovery, whatever fails in whatever order: nothing is forgotten, nothing has two places, no try is for ever."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dms.actor.handle import Handle, handle_of_peer
from dms.ensemble.config import EnsembleConfig
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.lifecycle.events import (
    Allocated,
    AllocatesDone,
    AllocationEnded,
    Begun,
    BidsCollected,
    CommitsDone,
    Committed,
    EndLeft,
    Event,
    HealthChanged,
    Instruction,
    LeftEnded,
    NodeAllocated,
    NodeBids,
    NodeCommitted,
    NodeStarted,
    PeerLost,
    Place,
    Restart,
    Restarted,
    RestartsDone,
    Started,
    StartsDone,
)
from dms.orchestrator.lifecycle.machine import begin, resume, step
from dms.orchestrator.lifecycle.state import LOST, DeploymentState, Phase, Stage
from dms.orchestrator.lifecycle.strategies import MAX_TRIES
from dms.testing.actors import key_of
from dms.testing.nodes import ensemble
from dms.types import gojson
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import CPU, RAM, Disk, Resources

S = 10**9
ENSEMBLE = EnsembleID("e" * 64)
PEERS = [peer_id_of(key_of(f"peer {number}").public) for number in range(5)]
ROOM = Resources(cpu=CPU(cores=64.0), ram=RAM(size=1 << 50), disk=Disk(size=1 << 50))


def with_node(whole: EnsembleConfig, name: str, **members: object) -> EnsembleConfig:
    node = msgspec.structs.replace(whole.v1.nodes[name], **members)
    return EnsembleConfig(v1=msgspec.structs.replace(whole.v1, nodes=whole.v1.nodes | {name: node}))


BASE = ensemble(
    {"n1": {"web": "service", "side": "task"}, "n2": {"db": "service"}},
    allocation={"failure_recovery": "one_for_all"},
    escalation_strategy="redeploy",
)
CONFIG = with_node(with_node(BASE, "n1", redundancy=2), "n2", failure_recovery="redeploy")
NODES = ("n1", "n2", "n1-standby-1", "n1-standby-2")
KEYS = ("n1.web", "n1.side", "n2.db", "n1-standby-1.web")


def bid(node: str, peer: PeerID) -> Bid:
    return Bid(node_id=node, peer=peer, handle=handle_of_peer(peer), free=ROOM)


def other_way_round(event: Event) -> Event:
    """The same event, its answers in another order."""
    answers = {name: each for name in event.__struct_fields__ if isinstance(each := getattr(event, name), dict)}
    return msgspec.structs.replace(event, **{name: dict(reversed(by_key.items())) for name, by_key in answers.items()})


class AnyFailure(RuleBasedStateMachine):
    """Answers to what was asked, failures of everything, restarts of the orchestrator, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = S
        self.state = begin(ENSEMBLE, CONFIG, now_ns=S, deadline_ns=100 * S)
        self.asked: tuple[Instruction, ...] = ()
        self.past: list[Event] = []

    def feed(self, event: Event) -> None:
        before = self.state
        self.state, self.asked = step(before, CONFIG, event)
        reread = gojson.decode(gojson.encode(before), DeploymentState)
        again = gojson.decode(gojson.encode(other_way_round(event)), type(event))
        assert step(reread, CONFIG, again)[0] == step(reread, CONFIG, other_way_round(event))[0] == self.state, (
            "the order in a dict is lost on the disk, and must not matter"
        )
        self.past.append(event)
        for key, record in before.allocations.items():
            after = self.state.allocations.get(key)
            if after is not None and (after.id, after.peer) == (record.id, record.peer) and after.handle is not None:
                assert after.execution >= record.execution, "executions are numbered upwards"

    @initialize()
    def it_runs(self) -> None:
        self.deploy()

    @precondition(lambda self: self.state.phase is Phase.PREPARING)
    @rule()
    def deploy(self) -> None:
        self.feed(Begun(at_ns=self.now_ns))
        offers = (bid("n1", PEERS[0]), bid("n2", PEERS[1]))
        self.feed(BidsCollected(at_ns=self.now_ns, round=self.state.round, bids=offers))
        keys = list(self.state.allocations)
        self.feed(CommitsDone(at_ns=self.now_ns, results={key: Committed(ok=True) for key in keys}))
        handles: dict[str, Handle] = {r.id: handle_of_peer(r.peer) for r in self.state.allocations.values() if r.peer}
        allocated = {"n1": Allocated(ok=True, handles=handles), "n2": Allocated(ok=True)}
        self.feed(AllocatesDone(at_ns=self.now_ns, results=allocated))
        self.feed(StartsDone(at_ns=self.now_ns, results={key: Started(ok=True) for key in keys}))

    @rule(seconds=st.sampled_from([1, 5, 100, 700]))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * S

    @precondition(lambda self: self.state.phase is Phase.RUNNING)
    @rule(
        key=st.sampled_from(KEYS),
        status=st.sampled_from(["failed", "failed", "terminated", "completed"]),
        is_lost=st.booleans(),
        behind=st.sampled_from([0, 0, 0, 1]),
    )
    def one_ends(self, key: str, status: str, is_lost: bool, behind: int) -> None:
        record = self.state.allocations.get(key)
        execution = max(1, record.execution - behind) if record is not None else 1
        reason = LOST if is_lost and status == "failed" else ""
        self.feed(
            AllocationEnded(at_ns=self.now_ns, key=key, status=status, error="e", reason=reason, execution=execution)
        )

    @precondition(lambda self: self.state.phase is Phase.RUNNING)
    @rule(key=st.sampled_from(KEYS), problem=st.sampled_from(["", "sick"]), is_failure=st.booleans())
    def health_changes(self, key: str, problem: str, is_failure: bool) -> None:
        event = HealthChanged(at_ns=self.now_ns, key=key, problem=problem, is_failure=is_failure and bool(problem))
        self.feed(event)

    @precondition(lambda self: any(r.due_ns for r in self.state.allocations.values()))
    @rule(outcome=st.sampled_from(["ok", "ok", "bad", "unreached", "gone"]))
    def restarts_come(self, outcome: str) -> None:
        due = [key for key, record in self.state.allocations.items() if record.due_ns]
        results = {
            key: Restarted(
                ok=outcome == "ok",
                error=outcome,
                execution=self.state.allocations[key].execution,
                is_unreached=outcome == "unreached",
                is_gone=outcome == "gone",
            )
            for key in due
        }
        self.feed(RestartsDone(at_ns=self.now_ns, results=results))

    @precondition(lambda self: self.state.assignment)
    @rule(data=st.data())
    def a_peer_dies(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted({b.peer for b in self.state.assignment.values()})))
        self.feed(PeerLost(at_ns=self.now_ns, peer=peer, why="dead"))

    @precondition(lambda self: self.state.placements)
    @rule(
        data=st.data(),
        without=st.sets(st.sampled_from(PEERS), max_size=2),
        ok=st.sampled_from([True, True, True, False]),
    )
    def a_placement_goes_on(self, data: st.DataObject, without: set[PeerID], ok: bool) -> None:
        node = data.draw(st.sampled_from(sorted(self.state.placements)))
        placement = self.state.placements[node]
        number, at_ns = placement.round, self.now_ns
        records = [r for r in self.state.allocations.values() if r.node_id == node and not r.is_over]
        match placement.stage:
            case Stage.BIDDING:
                offers = tuple(bid(node, peer) for peer in PEERS if peer not in without)
                self.feed(NodeBids(at_ns=at_ns, node=node, round=number, bids=offers))
            case Stage.COMMITTING:
                committed = {
                    r.key: Committed(ok=ok, error="" if ok else f"no room, {n}")
                    for n, r in enumerate(reversed(records))
                }
                self.feed(NodeCommitted(at_ns=at_ns, node=node, round=number, results=committed))
            case Stage.ALLOCATING:
                handles: dict[str, Handle] = {r.id: handle_of_peer(r.peer) for r in records}
                result = Allocated(ok=ok, error="" if ok else "no executor", handles=handles if ok else {})
                self.feed(NodeAllocated(at_ns=at_ns, node=node, round=number, result=result))
            case Stage.STARTING:
                started = {
                    r.key: Started(ok=ok, error="" if ok else f"no image, {n}") for n, r in enumerate(reversed(records))
                }
                self.feed(NodeStarted(at_ns=at_ns, node=node, round=number, results=started))

    @precondition(lambda self: self.state.left)
    @rule(data=st.data())
    def a_peer_answers(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.state.left))
        self.feed(LeftEnded(at_ns=self.now_ns, peer=one.bid.peer, ids=(one.id,)))
        assert one not in self.state.left

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def something_comes_again(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.past))
        if not isinstance(event, LeftEnded | AllocatesDone):  # what they say of peers is a fact of the past
            self.feed(msgspec.structs.replace(event, at_ns=self.now_ns))

    @precondition(lambda self: self.state.phase is Phase.RUNNING)
    @rule()
    def the_orchestrator_restarts(self) -> None:
        stored = gojson.decode(gojson.encode(self.state), DeploymentState)
        assert stored == self.state
        self.state, asked = resume(stored, self.now_ns)
        assert {i.node for i in asked if isinstance(i, Place)} == set(self.state.placements)
        due = {key for key, record in self.state.allocations.items() if record.due_ns and not record.is_over}
        assert {key for i in asked if isinstance(i, Restart) for key in i.keys} == due
        assert (EndLeft() in asked) is bool(self.state.left)

    @invariant()
    def each_has_an_id_of_its_own(self) -> None:
        ids = [record.id for record in self.state.allocations.values()]
        assert len(set(ids)) == len(ids)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if self.state.phase is not Phase.RUNNING:
            return
        for record in self.state.allocations.values():
            is_placed = record.node_id in self.state.placements
            assert record.is_over or record.status in ("running", "standby") or record.due_ns or is_placed, record
            assert not (record.due_ns and is_placed), "restarted where it is, or placed elsewhere"
            if not record.is_over and not is_placed:
                assert record.handle is not None
                assert self.state.assignment[record.node_id].peer == record.peer

    @invariant()
    def no_machine_has_two_of_a_group(self) -> None:
        group = [self.state.assignment[n].peer for n in NODES if n != "n2" and n in self.state.assignment]
        assert len(group) == len(set(group))

    @invariant()
    def what_is_told_to_end_is_nowhere_wanted(self) -> None:
        wanted = {(r.id, r.peer) for r in self.state.allocations.values() if r.peer and not r.is_over}
        assert not wanted & {(one.id, one.bid.peer) for one in self.state.left}

    @invariant()
    def tries_are_bounded(self) -> None:
        assert all(1 <= tries.count <= MAX_TRIES for tries in self.state.tries.values())


AnyFailure.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyFailure = AnyFailure.TestCase
