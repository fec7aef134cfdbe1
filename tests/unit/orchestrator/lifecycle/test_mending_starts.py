"""What fails while others are still being started."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from tests.unit.orchestrator.lifecycle.test_machine import BIDS, DEADLINE_NS, ENSEMBLE, S, allocates, starts

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.lifecycle.events import (
    AllocatesDone,
    AllocationEnded,
    Begun,
    BidsCollected,
    CollectBids,
    EndLost,
    Event,
    FetchLogs,
    HealthChanged,
    Instruction,
    Restart,
    Restarted,
    RestartsDone,
    ShutdownAll,
    ShutdownRequested,
    StartAll,
    Started,
    StartsDone,
    Supervise,
)
from dms.orchestrator.lifecycle.machine import begin, resume, step
from dms.orchestrator.lifecycle.state import LOST, Phase
from dms.orchestrator.lifecycle.strategies import MAX_TRIES
from dms.testing.nodes import ensemble

PLAIN = ensemble({"n1": {"a": "task", "b": "service"}, "n2": {"c": "task"}})


def config(recovery: str = "one_for_all", node: str = "") -> EnsembleConfig:
    v1 = PLAIN.v1
    allocations = v1.allocations | {"a": replace(v1.allocations["a"], failure_recovery=recovery)}
    nodes = v1.nodes | {"n1": replace(v1.nodes["n1"], failure_recovery=node)}
    return EnsembleConfig(v1=replace(v1, allocations=allocations, nodes=nodes))


class Story:
    """A deployment whose allocations are being started."""

    def __init__(self, config: EnsembleConfig) -> None:
        self.config = config
        self.state = begin(ENSEMBLE, config, now_ns=0, deadline_ns=DEADLINE_NS)
        self.feed(Begun(at_ns=S))
        self.feed(BidsCollected(at_ns=2 * S, round=1, bids=BIDS))
        self.feed(AllocatesDone(at_ns=4 * S, results=allocates(self.state)))
        assert self.state.phase is Phase.PROVISIONING

    def feed(self, event: Event) -> tuple[Instruction, ...]:
        self.state, instructions = step(self.state, self.config, event)
        return instructions

    def fails(self, at_s: int = 5, **members: Any) -> tuple[Instruction, ...]:
        return self.feed(AllocationEnded(at_ns=at_s * S, key="n1.a", status="failed", error="exit code 3", **members))


def test_it_is_restarted_alone_whatever_its_strategy() -> None:
    story = Story(config("one_for_all"))
    assert story.fails() == (Restart(("n1.a",)),)
    record = story.state.allocations["n1.a"]
    assert (story.state.phase, record.status, record.execution, record.due_ns) == (
        Phase.PROVISIONING,
        "pending",
        2,
        6 * S,
    )
    assert story.state.allocations["n1.b"].execution == 1
    assert story.fails(execution=1) == (), "told again of the first one"


def test_once_it_runs_again_the_rest_goes_on() -> None:
    story = Story(config())
    story.fails()
    done = RestartsDone(at_ns=7 * S, results={"n1.a": Restarted(ok=True, execution=2)})
    assert story.feed(done) == ()
    assert story.state.phase is Phase.PROVISIONING
    assert story.feed(StartsDone(at_ns=8 * S, results=starts())) == (Supervise(),)
    assert {record.status for record in story.state.allocations.values()} == {"running"}
    assert story.state.allocations["n1.a"].restarts == 1


def test_what_is_still_due_when_everything_was_started_is_restarted_then() -> None:
    story = Story(config())
    story.fails()
    story.feed(StartsDone(at_ns=5 * S, results=starts()))
    record = story.state.allocations["n1.a"]
    assert (story.state.phase, record.status, record.due_ns) == (Phase.RUNNING, "pending", 6 * S)
    story.feed(RestartsDone(at_ns=7 * S, results={"n1.a": Restarted(ok=True, execution=2)}))
    assert story.state.allocations["n1.a"].status == "running"


def test_after_so_many_tries_it_has_failed_and_another_place_is_sought() -> None:
    story = Story(config())
    for execution in range(1, MAX_TRIES + 1):
        assert story.fails(execution=execution) == (Restart(("n1.a",)),)
        story.feed(RestartsDone(at_ns=5 * S, results={"n1.a": Restarted(ok=True, execution=execution + 1)}))
    assert story.fails(execution=MAX_TRIES + 1) == (FetchLogs("n1.a"), EndLost("n1.a"))
    failed = starts() | {"n1.a": Started(ok=False, error="exit code 3; n2.c waits for it")}
    assert story.feed(StartsDone(at_ns=8 * S, results=failed))[-1] == CollectBids(2)
    assert story.state.allocations["n1.a"].execution == 1


def test_a_restart_that_is_refused_counts_as_its_failure() -> None:
    story = Story(config())
    story.fails()
    results = {"n1.a": Restarted(ok=False, error="disk full", execution=2, is_gone=True)}
    assert story.feed(RestartsDone(at_ns=7 * S, results=results)) == (FetchLogs("n1.a"), EndLost("n1.a"))
    assert (story.state.phase, story.state.allocations["n1.a"].status) == (Phase.PROVISIONING, "failed")


def test_nobody_restarts_what_says_nothing_of_it_or_what_was_lost() -> None:
    assert Story(config("")).fails() == (FetchLogs("n1.a"),)
    assert Story(config("stay_down")).fails() == (FetchLogs("n1.a"),)
    assert Restart(("n1.a",)) not in Story(config()).fails(reason=LOST)
    assert Restart(("n1.a",)) not in Story(config("", node="redeploy")).fails(), "that is for when it runs"
    assert Story(config("", node="restart")).fails() == (Restart(("n1.a",)),)


def test_what_is_not_well_is_restarted_once_at_a_time() -> None:
    story = Story(config())
    sick = HealthChanged(at_ns=5 * S, key="n1.a", problem="no answer", is_failure=True)
    assert story.feed(sick) == (Restart(("n1.a",)),)
    assert story.feed(sick) == ()
    assert story.feed(HealthChanged(at_ns=5 * S, key="n1.b", problem="no answer", is_failure=True)) == ()


def test_after_a_crash_the_restart_is_still_due() -> None:
    story = Story(config())
    story.fails()
    assert resume(story.state, 5 * S)[1] == (StartAll(), Restart(("n1.a",)))


def test_a_shutdown_ends_it_all_the_same() -> None:
    story = Story(config())
    story.fails()
    assert story.feed(ShutdownRequested(at_ns=6 * S)) == (ShutdownAll(),)
    assert story.feed(RestartsDone(at_ns=7 * S, results={"n1.a": Restarted(ok=True, execution=2)})) == ()
