"""The deployment's decisions: every arrow of the diagram, and what holds whatever events come in whatever order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms.actor.handle import Handle, handle_of_peer
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.lifecycle.events import (
    Allocate,
    Allocated,
    AllocatesDone,
    AllocationEnded,
    Begun,
    BidsCollected,
    CollectBids,
    Commit,
    CommitsDone,
    Committed,
    EndLost,
    Event,
    FetchLogs,
    Finish,
    GivenUp,
    Instruction,
    PlaceStandbys,
    Revert,
    Reverted,
    Settled,
    ShutdownAll,
    ShutdownDone,
    ShutdownRequested,
    StartAll,
    Started,
    StartsDone,
    Supervise,
)
from dms.orchestrator.lifecycle.machine import (
    BID_WINDOW_S,
    MAX_PROVISION_ATTEMPTS,
    begin,
    resume,
    step,
)
from dms.orchestrator.lifecycle.state import LOST, MAX_PEER_FAILURES, DeploymentState, Phase
from dms.testing.actors import key_of
from dms.testing.nodes import ensemble
from dms.types import gojson
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import CPU, RAM, Disk, Resources

S = 10**9
WINDOW_NS = int(BID_WINDOW_S * S)
DEADLINE_NS = 100 * S
ENSEMBLE = EnsembleID("e" * 64)
CONFIG = ensemble({"n1": {"a": "task", "b": "service"}, "n2": {"c": "task"}})
KEYS = ("n1.a", "n1.b", "n2.c")
PEERS = [peer_id_of(key_of(f"peer {number}").public) for number in range(4)]
ROOM = Resources(cpu=CPU(cores=8.0), ram=RAM(size=1 << 40), disk=Disk(size=1 << 40))


def bid(node: str, peer: PeerID) -> Bid:
    return Bid(node_id=node, peer=peer, handle=handle_of_peer(peer), free=ROOM)


BIDS = (bid("n1", PEERS[0]), bid("n2", PEERS[1]))


def commits(**failed: str) -> dict[str, Committed]:
    refused = {key.replace("_", "."): error for key, error in failed.items()}
    return {
        key: Committed(ok=key not in refused, error=refused.get(key, ""), ports={"80": 1} if key == "n1.a" else {})
        for key in KEYS
    }


def allocates(state: DeploymentState, **failed: str) -> dict[str, Allocated]:
    results = {}
    for node in ("n1", "n2"):
        records = [r for r in state.allocations.values() if r.node_id == node and r.peer]
        handles: dict[str, Handle] = {r.id: handle_of_peer(r.peer) for r in records}
        results[node] = (
            Allocated(ok=False, error=failed[node]) if node in failed else Allocated(ok=True, handles=handles)
        )
    return results


def starts(**failed: str) -> dict[str, Started]:
    refused = {key.replace("_", "."): error for key, error in failed.items()}
    return {key: Started(ok=key not in refused, error=refused.get(key, "")) for key in KEYS}


class Story:
    """A deployment and the events fed to it."""

    def __init__(self) -> None:
        self.state = begin(ENSEMBLE, CONFIG, now_ns=0, deadline_ns=DEADLINE_NS)
        self.now_ns = 0

    def feed(self, event: Event) -> tuple[Instruction, ...]:
        self.state, instructions = step(self.state, CONFIG, event)
        return instructions

    def to(self, phase: Phase) -> Story:
        events: list[Any] = [
            lambda: Begun(at_ns=S),
            lambda: BidsCollected(at_ns=2 * S, round=1, bids=BIDS),
            lambda: CommitsDone(at_ns=3 * S, results=commits()),
            lambda: AllocatesDone(at_ns=4 * S, results=allocates(self.state)),
            lambda: StartsDone(at_ns=5 * S, results=starts()),
        ]
        for make in events:
            if self.state.phase is phase and (phase is not Phase.PREPARING or self.state.round):
                return self
            self.feed(make())
        assert self.state.phase is phase
        return self

    def ended(self, key: str, status: str = "completed", **members: Any) -> tuple[Instruction, ...]:
        return self.feed(AllocationEnded(at_ns=9 * S, key=key, status=status, **members))


def revert_of(*bids: Bid) -> Revert:
    return Revert(tuple(sorted(bids, key=lambda b: b.peer)))


# the arrows ----------------------------------------------------------------------------------------------------------


def test_it_begins_by_asking_for_bids() -> None:
    story = Story()
    assert story.feed(Begun(at_ns=S)) == (CollectBids(1),)
    assert story.state.phase is Phase.PREPARING
    assert story.feed(Begun(at_ns=S)) == (), "once"


def test_bids_that_fit_are_committed() -> None:
    story = Story().to(Phase.PREPARING)
    assert story.feed(BidsCollected(at_ns=2 * S, round=1, bids=BIDS)) == (Commit(),)
    assert story.state.phase is Phase.COMMITTING
    assert {node: b.peer for node, b in story.state.assignment.items()} == {"n1": PEERS[0], "n2": PEERS[1]}
    assert [r.peer for r in story.state.allocations.values()] == [PEERS[0], PEERS[0], PEERS[1]]


def test_bids_that_do_not_fit_begin_another_round() -> None:
    story = Story().to(Phase.PREPARING)
    assert story.feed(BidsCollected(at_ns=2 * S, round=1, bids=BIDS[:1])) == (CollectBids(2),)
    assert (story.state.phase, story.state.error) == (Phase.PREPARING, "no bids for n2")
    assert story.feed(BidsCollected(at_ns=2 * S, round=1, bids=BIDS)) == (), "of a round that is over"


def test_without_time_for_another_round_it_fails() -> None:
    story = Story().to(Phase.PREPARING)
    late = DEADLINE_NS - WINDOW_NS + 1
    assert story.feed(BidsCollected(at_ns=late, round=1, bids=())) == (Finish(),)
    assert story.state.phase is Phase.FAILED
    assert story.state.error == "failed to create deployment: no bids for n1, n2"
    assert story.state.completed_ns == late


def test_commitments_become_allocations_and_their_ports_are_kept() -> None:
    story = Story().to(Phase.COMMITTING)
    assert story.feed(CommitsDone(at_ns=3 * S, results=commits())) == (Allocate(),)
    assert story.state.phase is Phase.COMMITTING
    assert story.state.allocations["n1.a"].ports == {"80": 1}


@pytest.mark.parametrize("missing", [False, True])
def test_one_refused_or_missing_commitment_reverts_all_and_blames_its_peer(missing: bool) -> None:
    story = Story().to(Phase.COMMITTING)
    results = commits(n2_c="no free resources")
    if missing:
        del results["n2.c"]
    assert story.feed(CommitsDone(at_ns=3 * S, results=results)) == (revert_of(*BIDS), CollectBids(2))
    assert story.state.phase is Phase.PREPARING
    assert story.state.failures == {PEERS[1]: 1}
    assert story.state.error == ("n2.c: no answer" if missing else "n2.c: no free resources")
    assert story.state.assignment == {}
    assert all(not r.peer and r.handle is None for r in story.state.allocations.values())


def test_allocations_are_started() -> None:
    story = Story().to(Phase.COMMITTING)
    story.feed(CommitsDone(at_ns=3 * S, results=commits()))
    assert story.feed(AllocatesDone(at_ns=4 * S, results=allocates(story.state))) == (StartAll(),)
    assert story.state.phase is Phase.PROVISIONING
    assert all(r.handle is not None for r in story.state.allocations.values())


def test_an_allocation_that_was_not_made_reverts_all() -> None:
    story = Story().to(Phase.COMMITTING)
    assert story.feed(AllocatesDone(at_ns=4 * S, results=allocates(story.state, n1="no executor"))) == (
        revert_of(*BIDS),
        CollectBids(2),
    )
    assert (story.state.failures, story.state.error) == ({PEERS[0]: 1}, "n1: no executor")


def test_what_started_runs_and_is_watched() -> None:
    story = Story().to(Phase.PROVISIONING)
    assert story.feed(StartsDone(at_ns=5 * S, results=starts())) == (Supervise(),)
    assert story.state.phase is Phase.RUNNING
    assert {(r.status, r.started_ns) for r in story.state.allocations.values()} == {("running", 5 * S)}


def test_a_start_that_failed_is_tried_elsewhere_so_many_times() -> None:
    story = Story()
    story.feed(Begun(at_ns=S))
    for attempt in range(1, MAX_PROVISION_ATTEMPTS + 1):
        story.feed(BidsCollected(at_ns=2 * S, round=attempt, bids=BIDS))
        story.feed(AllocatesDone(at_ns=4 * S, results=allocates(story.state)))
        last = story.feed(StartsDone(at_ns=5 * S, results=starts(n2_c="disk full")))
        if attempt < MAX_PROVISION_ATTEMPTS:
            assert last == (revert_of(*BIDS), CollectBids(attempt + 1))
    assert last == (revert_of(*BIDS), Finish())
    assert story.state.error == "failed to provision deployment: n2.c: disk full"
    assert story.state.excluded == (PEERS[1],)
    assert story.state.failures[PEERS[1]] >= MAX_PEER_FAILURES


def test_what_would_fail_everywhere_fails_at_once() -> None:
    story = Story().to(Phase.PROVISIONING)
    results = starts() | {"n1.a": Started(ok=False, error="no module", is_hopeless=True)}
    assert story.feed(StartsDone(at_ns=5 * S, results=results)) == (revert_of(*BIDS), Finish())
    assert (story.state.phase, story.state.error) == (
        Phase.FAILED,
        "failed to provision deployment: n1.a: no module",
    )


def test_a_start_that_nobody_tells_of_did_not_happen() -> None:
    story = Story().to(Phase.PROVISIONING)
    results = starts()
    del results["n1.b"]
    assert story.feed(StartsDone(at_ns=5 * S, results=results))[-1] == CollectBids(2)
    assert story.state.error == "n1.b: not started"


def test_it_is_completed_when_everything_has_ended_well() -> None:
    story = Story().to(Phase.RUNNING)
    assert story.ended("n1.a", exit_code=0) == (FetchLogs("n1.a"),)
    assert story.ended("n1.b") == (FetchLogs("n1.b"),)
    assert story.state.phase is Phase.RUNNING
    assert story.ended("n2.c", exit_code=0) == (FetchLogs("n2.c"), Finish())
    assert (story.state.phase, story.state.error, story.state.completed_ns) == (Phase.COMPLETED, "", 9 * S)


def test_it_has_failed_when_any_part_has() -> None:
    story = Story().to(Phase.RUNNING)
    story.ended("n1.a", "failed", error="exit code 3", exit_code=3)
    assert (story.state.phase, story.state.error) == (Phase.RUNNING, "n1.a: exit code 3")
    story.ended("n1.b", "terminated")
    story.ended("n2.c", "completed", exit_code=0)
    assert (story.state.phase, story.state.error) == (Phase.FAILED, "n1.a: exit code 3")


def test_what_ended_before_all_was_started_counts() -> None:
    story = Story().to(Phase.PROVISIONING)
    assert story.ended("n1.a", exit_code=0) == (FetchLogs("n1.a"),)
    assert story.state.phase is Phase.PROVISIONING
    story.feed(StartsDone(at_ns=10 * S, results=starts()))
    record = story.state.allocations["n1.a"]
    assert (record.status, record.started_ns, record.ended_ns) == ("completed", 9 * S, 9 * S)
    assert story.state.allocations["n1.b"].status == "running"


def test_a_lost_allocation_is_ended_at_its_provider() -> None:
    story = Story().to(Phase.RUNNING)
    assert story.ended("n1.a", "failed", reason=LOST, error="silence") == (FetchLogs("n1.a"), EndLost("n1.a"))


@pytest.mark.parametrize("status", ["running", "pending", "stopped"])
def test_what_is_no_end_ends_nothing(status: str) -> None:
    story = Story().to(Phase.RUNNING)
    before = story.state
    assert story.ended("n1.a", status) == ()
    assert story.ended("n9.z") == ()
    assert story.state is before


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.COMMITTING])
def test_what_was_not_allocated_cannot_end(phase: Phase) -> None:
    story = Story().to(phase)
    before = story.state
    assert story.ended("n1.a", "failed") == ()
    assert story.state is before


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.COMMITTING, Phase.PROVISIONING, Phase.RUNNING])
def test_a_shutdown_is_obeyed_in_any_phase(phase: Phase) -> None:
    story = Story().to(phase)
    assert story.feed(ShutdownRequested(at_ns=7 * S)) == (ShutdownAll(),)
    assert story.state.phase is Phase.SHUTTING_DOWN
    assert story.feed(ShutdownRequested(at_ns=7 * S)) == (), "once"
    assert story.feed(ShutdownDone(at_ns=8 * S)) == (Finish(),)
    assert (story.state.phase, story.state.error) == (Phase.COMPLETED, "")
    assert {r.status for r in story.state.allocations.values()} == {"terminated"}


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.COMMITTING, Phase.PROVISIONING, Phase.RUNNING])
def test_given_up_it_has_failed_in_any_phase_and_gives_everything_back(phase: Phase) -> None:
    story = Story().to(phase)
    owed = () if phase is Phase.PREPARING else (revert_of(*BIDS),)
    assert story.feed(GivenUp(at_ns=7 * S, error="a defect")) == (*owed, Finish())
    assert (story.state.phase, story.state.error, story.state.completed_ns) == (Phase.FAILED, "a defect", 7 * S)
    assert {(r.status, r.error) for r in story.state.allocations.values()} == {
        ("failed", "its orchestrator was given up")
    }
    assert resume(story.state, 8 * S)[1] == (*owed, Finish()), "a restart goes on with that"
    assert story.feed(GivenUp(at_ns=9 * S, error="again")) == ()


def test_a_shutdown_tells_whom_it_did_not_reach_and_what_had_failed() -> None:
    story = Story().to(Phase.RUNNING)
    story.ended("n1.a", "failed", error="exit code 3", exit_code=3)
    story.feed(ShutdownRequested(at_ns=7 * S))
    story.feed(ShutdownDone(at_ns=8 * S, unreached=("n2.c",)))
    assert story.state.error == "n1.a: exit code 3; could not reach n2.c"


def test_peers_owe_until_they_said_that_they_gave_back() -> None:
    story = Story().to(Phase.COMMITTING)
    story.feed(CommitsDone(at_ns=3 * S, results=commits(n1_a="x", n2_c="y")))
    assert {b.peer for b in story.state.owed} == set(PEERS[:2])
    story.feed(Reverted(at_ns=4 * S, peers=(PEERS[0],)))
    assert [b.peer for b in story.state.owed] == [PEERS[1]]
    assert story.feed(ShutdownRequested(at_ns=5 * S)) == (ShutdownAll(),)
    assert story.feed(ShutdownDone(at_ns=6 * S)) == (Revert((BIDS[1],)), Finish())


def test_whoever_is_chosen_again_owes_nothing() -> None:
    story = Story().to(Phase.COMMITTING)
    story.feed(CommitsDone(at_ns=3 * S, results=commits(n1_a="x")))
    story.feed(BidsCollected(at_ns=4 * S, round=2, bids=(bid("n1", PEERS[0]), bid("n2", PEERS[2]))))
    assert [b.peer for b in story.state.owed] == [PEERS[1]]


def test_a_reason_survives_the_rounds_without_bids_that_follow() -> None:
    story = Story().to(Phase.PROVISIONING)
    story.feed(StartsDone(at_ns=5 * S, results=starts(n2_c="disk full")))
    story.feed(BidsCollected(at_ns=DEADLINE_NS, round=2, bids=()))
    assert story.state.error == "failed to create deployment: no bids for n1, n2; before that n2.c: disk full"


# after a restart -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "expected", "after"),
    [
        (Phase.PREPARING, (CollectBids(2),), Phase.PREPARING),
        (Phase.COMMITTING, (revert_of(*BIDS), CollectBids(2)), Phase.PREPARING),
        (Phase.PROVISIONING, (StartAll(),), Phase.PROVISIONING),
        (Phase.RUNNING, (Supervise(), PlaceStandbys()), Phase.RUNNING),
    ],
)
def test_after_a_restart_it_goes_on(phase: Phase, expected: tuple[Instruction, ...], after: Phase) -> None:
    state, instructions = resume(Story().to(phase).state, 10 * S)
    assert (instructions, state.phase) == (expected, after)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.COMMITTING])
def test_after_a_restart_past_its_deadline_it_fails(phase: Phase) -> None:
    state, instructions = resume(Story().to(phase).state, DEADLINE_NS)
    assert state.phase is Phase.FAILED
    assert instructions == ((Finish(),) if phase is Phase.PREPARING else (revert_of(*BIDS), Finish()))


def test_after_a_restart_it_reverts_what_is_owed_before_anything_else() -> None:
    story = Story().to(Phase.COMMITTING)
    story.feed(CommitsDone(at_ns=3 * S, results=commits(n1_a="x")))
    assert resume(story.state, 4 * S)[1] == (revert_of(*BIDS), CollectBids(3))
    story.feed(BidsCollected(at_ns=4 * S, round=2, bids=(bid("n1", PEERS[2]), bid("n2", PEERS[2]))))
    story.feed(AllocatesDone(at_ns=5 * S, results=allocates(story.state)))
    assert resume(story.state, 4 * S)[1] == (revert_of(*BIDS), StartAll())


def test_an_end_is_cleaned_up_once() -> None:
    story = Story().to(Phase.PROVISIONING)
    story.feed(StartsDone(at_ns=5 * S, results=starts() | {"n1.a": Started(ok=False, error="no", is_hopeless=True)}))
    assert resume(story.state, 6 * S)[1] == (revert_of(*BIDS), Finish())
    story.feed(Reverted(at_ns=6 * S, peers=(PEERS[0], PEERS[1])))
    assert resume(story.state, 6 * S)[1] == (Finish(),)
    story.feed(Settled(at_ns=7 * S))
    assert story.state.is_settled
    assert resume(story.state, 8 * S) == (story.state, ())


def test_a_restart_while_shutting_down_shuts_down() -> None:
    story = Story().to(Phase.RUNNING)
    story.feed(ShutdownRequested(at_ns=7 * S))
    assert resume(story.state, 8 * S) == (story.state, (ShutdownAll(),))


def test_the_whole_state_survives_the_disk() -> None:
    story = Story().to(Phase.RUNNING)
    story.ended("n1.a", "failed", error="exit code 3", exit_code=0, reason="exited")
    assert gojson.decode(gojson.encode(story.state), DeploymentState) == story.state


# whatever comes ------------------------------------------------------------------------------------------------------

PROMISING = st.sampled_from(["", "", "", "refused"])


class AnyOrder(RuleBasedStateMachine):
    """Events of all kinds, answers to what was asked as well as stale, repeated and made-up ones, and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.state = begin(ENSEMBLE, CONFIG, now_ns=S, deadline_ns=DEADLINE_NS)
        self.now_ns = S
        self.reserved: set[PeerID] = set()
        """Peers that may hold something, as the instructions tell."""
        self.is_finished = False
        self.past: list[Event] = []

    def feed(self, event: Event) -> None:
        before = self.state
        self.state, instructions = step(before, CONFIG, event)
        self.past.append(event)
        self.check(before, instructions)

    def check(self, before: DeploymentState, instructions: tuple[Instruction, ...]) -> None:
        assert not (self.is_finished and instructions), "nothing is asked after the end"
        if before.phase.is_final:
            assert self.state.phase is before.phase, "the end is the end"
            assert self.state.allocations == before.allocations
        for instruction in instructions:
            match instruction:
                case CollectBids(number):
                    assert self.now_ns + WINDOW_NS <= DEADLINE_NS, "no round that ends after the deadline"
                    assert number == self.state.round
                case Commit():
                    self.reserved |= {b.peer for b in self.state.assignment.values()}
                case Revert(bids):
                    assert not {b.peer for b in bids} & {b.peer for b in self.state.assignment.values()} or (
                        self.state.phase.is_final
                    ), "nobody gives back what was just assigned"
                case Finish():
                    self.is_finished = True

    @rule(seconds=st.sampled_from([0, 1, 4, 30, 90]))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * S

    @rule()
    def begins(self) -> None:
        self.feed(Begun(at_ns=self.now_ns))

    @rule(
        n1=st.sets(st.sampled_from(PEERS), max_size=2),
        n2=st.sets(st.sampled_from(PEERS), max_size=2),
        late=st.booleans(),
    )
    def bids_come(self, n1: set[PeerID], n2: set[PeerID], late: bool) -> None:
        bids = tuple(bid(node, peer) for node, peers in (("n1", n1), ("n2", n2)) for peer in sorted(peers))
        self.feed(BidsCollected(at_ns=self.now_ns, round=self.state.round - late, bids=bids))

    @rule(error=PROMISING, missing=st.booleans())
    def commits_come(self, error: str, missing: bool) -> None:
        results = commits(**({"n2_c": error} if error else {}))
        if missing and error:
            del results["n1.b"]
        self.feed(CommitsDone(at_ns=self.now_ns, results=results))

    @precondition(lambda self: self.state.assignment)
    @rule(error=PROMISING)
    def allocates_come(self, error: str) -> None:
        self.feed(AllocatesDone(at_ns=self.now_ns, results=allocates(self.state, **({"n1": error} if error else {}))))

    @rule(error=PROMISING, hopeless=st.booleans())
    def starts_come(self, error: str, hopeless: bool) -> None:
        results = starts()
        if error:
            results["n1.b"] = Started(ok=False, error=error, is_hopeless=hopeless)
        self.feed(StartsDone(at_ns=self.now_ns, results=results))

    @rule(
        key=st.sampled_from([*KEYS, "n9.z"]), status=st.sampled_from(["completed", "failed", "terminated", "running"])
    )
    def one_ends(self, key: str, status: str) -> None:
        self.feed(AllocationEnded(at_ns=self.now_ns, key=key, status=status, error="e" if status == "failed" else ""))

    @rule(peers=st.sets(st.sampled_from(PEERS)))
    def peers_give_back(self, peers: set[PeerID]) -> None:
        answered = {b.peer for b in self.state.owed} & peers
        self.reserved -= answered
        self.feed(Reverted(at_ns=self.now_ns, peers=tuple(sorted(answered))))

    @rule()
    def user_ends_it(self) -> None:
        self.feed(ShutdownRequested(at_ns=self.now_ns))

    @precondition(lambda self: self.state.phase is Phase.SHUTTING_DOWN)
    @rule()
    def all_is_shut_down(self) -> None:
        self.reserved -= {b.peer for b in self.state.assignment.values()}
        self.feed(ShutdownDone(at_ns=self.now_ns))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def something_comes_again(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.past))
        if not isinstance(event, Reverted):  # its content is a fact of the past
            self.feed(msgspec.structs.replace(event, at_ns=self.now_ns))

    @rule()
    def restarts(self) -> None:
        before = self.state
        self.is_finished = False
        self.state, instructions = resume(gojson.decode(gojson.encode(before), DeploymentState), self.now_ns)
        self.check(before, instructions)
        if self.state.phase.is_final:
            assert self.is_finished, "a restart finishes what had ended but was not settled"

    @invariant()
    def whoever_may_hold_something_will_be_told(self) -> None:
        """By a revert; or, unless the creation failed, by the shutdown or because what it hosts ends by itself."""
        told = {b.peer for b in self.state.owed}
        if not self.state.error.startswith("failed to"):
            told |= {b.peer for b in self.state.assignment.values()}
        assert self.reserved <= told

    @invariant()
    def an_end_is_whole(self) -> None:
        if self.state.phase.is_final:
            assert self.is_finished
            assert all(r.is_over for r in self.state.allocations.values())
            assert self.state.completed_ns
        else:
            assert not self.is_finished

    @invariant()
    def what_is_assigned_is_whole(self) -> None:
        if self.state.phase in (Phase.COMMITTING, Phase.PROVISIONING, Phase.RUNNING):
            assert set(self.state.assignment) == {"n1", "n2"}
        if self.state.phase in (Phase.PROVISIONING, Phase.RUNNING):
            assert all(r.handle is not None for r in self.state.allocations.values())


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
