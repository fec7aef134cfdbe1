"""Everything that can go wrong at a provider, and what becomes of the deployment then."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.executor.errors import InvalidEngineSpec, StartFailed
from dms.executor.protocol import EndReason
from dms.node import payloads as p
from dms.orchestrator.journal import Journal
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, GIB, Cluster, ensemble, until
from dms.types.resources import CPU, RAM, Disk, Resources

SMALL = Resources(cpu=CPU(cores=1.0), ram=RAM(size=2 * GIB), disk=Disk(size=20 * GIB))


async def test_a_task_that_fails_makes_the_deployment_fail_with_exit_code_and_reason(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("bad-1", Script(1, exit_code=3, stderr=((0.5, b"no input\n"),)))
    bob.executor.on("trap-1", Script(2, exit_code=134, reason=EndReason.TRAPPED, error_msg="unreachable"))
    job = await alice.user.deploy(ensemble({"n1": {"bad": "task", "good": "task", "trap": "task"}}))
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "n1.bad: exit code 3; n1.trap: unreachable"
    status = await alice.user.status(job)
    assert (status.status, status.error) == ("Failed", state.error)
    bad, good, trap = (status.allocation_info[f"n1.{name}"] for name in ("bad", "good", "trap"))
    assert (bad.status, bad.exit_code, bad.reason) == ("failed", 3, "exited")
    assert (trap.status, trap.exit_code, trap.reason, trap.error) == ("failed", 134, "trapped", "unreachable")
    assert (good.status, good.exit_code) == ("completed", 0)
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()
    assert await alice.user.log(job, "n1.bad", "stderr") == b"no input\n"


async def test_a_failed_task_does_not_end_the_service_beside_it(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("bad-1", Script(5, exit_code=1))
    job = await alice.user.deploy(ensemble({"n1": {"bad": "task", "web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(60)
    assert (alice.state(job).phase, alice.state(job).error) == (Phase.RUNNING, "n1.bad: exit code 1")
    await alice.user.shutdown(job)
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert state.error == "n1.bad: exit code 1", "ended as asked, and the failure is not forgotten"


async def test_without_bidders_it_fails_at_its_deadline_and_names_the_nodes(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob")  # offers nothing
    await cluster.start("carol", offers=SMALL)
    begun = trio.current_time()
    job = await alice.user.deploy(ensemble({"big": {"a": "task"}, "fits": {"b": "task"}}, cores=1.0, ram_bytes=2 * GIB))
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "failed to create deployment: the peers that bid cannot hold big, fits together"
    assert 110 <= trio.current_time() - begun <= 120, "the time that the user gave, less the reserve"
    job = await alice.user.deploy(ensemble({"big": {"a": "task"}, "fits": {"b": "task"}}, cores=2.0))
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "failed to create deployment: no bids for big, fits"
    assert all(r.status == "failed" and r.error == "not deployed" for r in state.allocations.values())
    cluster.assert_nothing_is_held()


@pytest.mark.parametrize("moment", ["bid", "commit", "allocate"])
async def test_a_provider_that_vanishes_on_the_way_is_replaced(
    autojump_clock: MockClock, cluster: Cluster, moment: str
) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol"):
        await cluster.start(name, offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    chosen = cluster.of_peer((await alice.wait_for(job, Phase.COMMITTING)).assignment["n1"].peer)
    other = cluster.nodes["carol" if chosen.name == "bob" else "bob"]
    if moment == "commit":
        await until(lambda: chosen.node.resources.commitments)
    elif moment == "allocate":
        await alice.wait_for(job, Phase.PROVISIONING)
    await chosen.kill()
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert state.assignment["n1"].peer == other.peer
    assert other.starts(job) == {"n1.a": 1}
    await chosen.start()
    await trio.sleep(1200)
    assert chosen.starts(job) == {}
    cluster.assert_nothing_is_held()


async def test_what_the_executor_refuses_fails_at_once_and_everywhere(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = [await cluster.start(name, offers=FOUR_CORES) for name in ("bob", "carol")]
    for node in nodes:
        node.executor.on("bad-1", Script(invalid=InvalidEngineSpec("module is not WebAssembly")))
    begun = trio.current_time()
    job = await alice.user.deploy(ensemble({"n1": {"bad": "task"}, "n2": {"web": "service"}}))
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "failed to provision deployment: n1.bad: module is not WebAssembly"
    assert trio.current_time() - begun < 2
    await alice.wait_until_settled(job)
    await trio.sleep(10)
    cluster.assert_nothing_is_held()
    assert [sum(node.starts(job).get("n1.bad", 0) for node in nodes)] == [0]


async def test_a_start_that_fails_on_one_machine_is_tried_on_another(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol"):
        (await cluster.start(name, offers=FOUR_CORES)).executor.on(
            "a-1", Script(start_error=StartFailed("disk broken"))
        )
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    first = (await alice.wait_for(job, Phase.PROVISIONING)).assignment["n1"].peer
    other = next(n for n in cluster.nodes.values() if n.peer != first and n.name != "alice")
    other.executor.on("a-1", Script(1))
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert state.assignment["n1"].peer == other.peer
    await trio.sleep(10)
    cluster.assert_nothing_is_held()


async def test_a_start_that_fails_on_every_machine_fails_with_the_reason(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = [await cluster.start(name, offers=FOUR_CORES) for name in ("bob", "carol")]
    for node in nodes:
        node.executor.on("a-1", Script(start_error=StartFailed("disk broken")))
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "failed to provision deployment: n1.a: disk broken"
    assert state.attempts == 3
    await trio.sleep(10)
    cluster.assert_nothing_is_held()


async def test_a_reason_is_not_hidden_by_the_lack_of_bids_that_follows(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("a-1", Script(start_error=StartFailed("disk broken")))
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "failed to create deployment: no bids for n1; before that n1.a: disk broken"


async def test_silence_while_running_is_a_failure(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(300)
    assert alice.state(job).phase is Phase.RUNNING
    cluster.network.cut(alice.network, bob.network)
    lost = trio.current_time()
    state = await alice.wait_for(job, Phase.FAILED)
    assert 70 <= trio.current_time() - lost <= 130, "100 s, looked at every 25 s, after the last sign"
    assert state.error.startswith(f"n1.web: no sign of life from {bob.peer} for 1")
    assert state.allocations["n1.web"].reason == "lost"


async def test_whoever_was_given_up_ends_his_work_once_he_is_back(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    nodes = [await cluster.start(name, offers=SMALL) for name in ("bob", "carol")]
    job = await alice.user.deploy(ensemble({"n1": {"web1": "service"}, "n2": {"web2": "service"}}))
    first = cluster.of_peer((await alice.wait_for(job, Phase.RUNNING)).assignment["n1"].peer)
    assert {n.peer for n in nodes} == {bid.peer for bid in alice.state(job).assignment.values()}
    cluster.network.cut(alice.network, first.network)
    await until(lambda: alice.state(job).allocations["n1.web1"].status == "failed", every_s=1)
    assert first.hosted_state(job, "n1.web1") == "running"
    cluster.network.heal(alice.network, first.network)
    await until(lambda: first.hosted_state(job, "n1.web1") == "terminated", timeout_s=60)
    assert first.holdings() == {}
    assert alice.state(job).phase is Phase.RUNNING, "the other one goes on"


async def test_work_whose_orchestrator_is_gone_ends_after_a_while(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await alice.kill()
    await trio.sleep(2 * 3600)
    assert bob.hosted_state(job, "n1.web") == "running"
    await trio.sleep(1.5 * 3600)
    assert bob.hosted_state(job, "n1.web") in ("", "terminated")
    cluster.assert_nothing_is_held()


async def test_an_allocation_that_is_never_started_is_given_back(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.COMMITTING)
    await until(lambda: bob.node.resources.allocations)
    await alice.kill()
    await trio.sleep(1200)
    assert bob.starts(job) == {}
    cluster.assert_nothing_is_held()


async def test_logs_that_can_no_longer_be_had_are_an_error_that_says_so(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    request = p.LogsRequest(ensemble_id=job, allocation="n1.web")
    early = await alice.user.call("logs", request, p.LogsReply)
    assert early.error.startswith("there are no logs of n1.web yet: the deployment is ")
    await alice.wait_for(job, Phase.RUNNING)
    await bob.kill()
    await alice.wait_for(job, Phase.FAILED)
    await alice.wait_until_settled(job)
    late = await alice.user.call("logs", request, p.LogsReply)
    assert late.error == "there are no logs of n1.web"
    kinds = [e.kind for e in await alice.user.events(job)]
    assert "logs_not_fetched" in kinds


class Unforeseen:
    """A journal that meets a defect now and then."""

    def __init__(self, journal: Journal, defects: int) -> None:
        self._journal = journal
        self.defects = defects

    def __getattr__(self, name: str) -> Any:
        if name == "write_event" and self.defects:
            self.defects -= 1
            raise ZeroDivisionError
        return getattr(self._journal, name)


async def test_a_deployment_whose_driver_fails_goes_on_from_what_is_on_disk(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("job-1", Script(100))
    job = await alice.user.deploy(ensemble({"n1": {"job": "task"}}))
    await alice.wait_for(job, Phase.RUNNING)
    live = alice.node.deployments.live(job)
    flawed = Unforeseen(live._journal, 2)
    live._journal = flawed  # type: ignore[assignment]
    await alice.wait_for(job, Phase.COMPLETED)
    assert flawed.defects == 0
    await alice.wait_until_settled(job)
    assert "restored" in [e.kind for e in await alice.user.events(job)]
    cluster.assert_nothing_is_held()


@pytest.mark.parametrize("defects", [6, 7])
async def test_a_deployment_that_is_given_up_has_failed_at_once_and_gives_everything_back(
    autojump_clock: MockClock, cluster: Cluster, defects: int
) -> None:
    """The last of seven defects keeps even that from being written down; it shows all the same."""
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("job-1", Script(100))
    job = await alice.user.deploy(ensemble({"n1": {"job": "task"}, "n2": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    live = alice.node.deployments.live(job)
    live._journal = Unforeseen(live._journal, defects)  # type: ignore[assignment]
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "given up by this node: ZeroDivisionError()"
    assert state.allocations["n2.web"].error == "its orchestrator was given up"
    await alice.wait_until_settled(job)
    assert ("given_up" in [e.kind for e in await alice.user.events(job)]) is (defects == 6)
    assert alice.state(job).error == state.error
    cluster.assert_nothing_is_held()
