"""What the simulation found, each as a sentence with the seed that showed it first."""

from __future__ import annotations

import msgspec
import pytest
import trio
from tests.sim.byzantine import corrupt
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.node.payloads import Hello
from dms.orchestrator.errors import NothingToRead
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble, until
from dms.types.ids import Capability


async def test_a_machine_whose_clock_ran_ahead_hears_answers_and_requests_once_it_is_set_right(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Seed 14. Answers expire when our own clock said so; counted as the sender's they made the node deaf for an hour."""
    alice, bob = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    bob.ahead_s = 3600
    await bob.node.root.invoke(alice.node.root.handle, "/public/hello", None, Hello)
    await trio.sleep(120)
    await bob.node.root.invoke(alice.node.root.handle, "/public/hello", None, Hello)
    bob.ahead_s = 0
    await alice.node.root.invoke(bob.node.root.handle, "/public/hello", None, Hello)
    await bob.node.root.invoke(alice.node.root.handle, "/public/hello", None, Hello)


async def test_bids_for_a_machine_whose_clock_ran_ahead_do_not_make_it_deaf_once_that_is_set_right(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Seed 439. A bid expires with the request, for which our own clock said when."""
    alice, bob = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    alice.ahead_s = 3600
    first = await alice.user.deploy(ensemble({"n1": {"job": "task"}}))
    await trio.sleep(40)
    alice.ahead_s = 0
    await alice.user.shutdown(first)
    await trio.sleep(40)
    second = await alice.user.deploy(ensemble({"n1": {"job": "task"}}))
    await alice.wait_for(second, Phase.COMPLETED, timeout_s=60)
    assert bob.starts(second) == {"n1.job": 1}


async def test_a_provider_that_could_not_be_told_of_the_end_learns_that_nobody_wants_its_work_any_more(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Seed 14. Where the orchestrator was no program answered any more, and so the workload ran on for hours."""
    alice, bob = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    cluster.network.cut(alice.network, bob.network)
    await alice.user.shutdown(job)
    state = await alice.wait_until_settled(job)
    assert state.error == "could not reach n1.web"
    cluster.network.heal(alice.network, bob.network)
    await until(lambda: not bob.holdings(), timeout_s=240, every_s=1)


async def test_an_orchestrator_that_cannot_be_reached_for_a_while_keeps_its_work(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, bob = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await alice.kill()
    await trio.sleep(1800)
    assert bob.hosted_state(job, "n1.web") == "running"
    await alice.start()
    await trio.sleep(300)
    assert alice.state(job).phase is Phase.RUNNING


async def test_the_events_tell_that_a_deployment_failed_while_its_orchestrator_was_down(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Seed 135. Whoever followed the events waited for an end that had come."""
    alice, _ = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.kill()
    await trio.sleep(600)
    await alice.start()
    await alice.wait_for(job, Phase.FAILED)
    restored = next(e for e in await alice.user.events(job) if e.kind == "restored")
    assert restored.detail == {"status": "Failed", "error": alice.state(job).error}


async def test_the_end_of_an_actor_on_a_machine_whose_clock_was_set_ahead_does_not_end_the_node(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Seed 68. What its grant had covered was put back, and had expired by the new time."""
    alice, bob = await cluster.start("alice"), await cluster.start("bob")
    root, caps = bob.node.root, [Capability("/dms/ensemble/x/logs")]
    audience, subject = root.handle.did, alice.node.root.handle.did
    child = await root.create_child("child")
    lasting = root.grant(subject, audience, caps)
    child.grant(subject, audience, [Capability("/dms/ensemble/x")])
    bob.ahead_s = 2 * 3600
    await child.aclose()
    assert lasting in root.common.grants
    tokens = [t for t in root.security.capabilities.list_roots()[1].tokens if t.body.cap == tuple(caps)]
    assert [t.body.exp > root.security.now_ns() for t in tokens] == [True]


async def test_grants_are_in_force_again_soon_after_the_clock_was_set_ahead(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, bob = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    alice.ahead_s = bob.ahead_s = 2 * 3600
    await trio.sleep(90)
    await alice.user.shutdown(job)
    state = await alice.wait_until_settled(job)
    assert (state.phase, state.error) == (Phase.COMPLETED, "")


@pytest.mark.parametrize("liar", ["carol", "dave"])
async def test_whoever_bids_and_never_keeps_it_does_not_keep_a_node_from_being_placed_again(
    autojump_clock: MockClock, cluster: Cluster, liar: str
) -> None:
    """Seed 178. The same liar won every round of bids."""
    alice, bob = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    config = ensemble({"n1": {"web": "service"}})
    node = msgspec.structs.replace(config.v1.nodes["n1"], failure_recovery="redeploy")
    job = await alice.user.deploy(EnsembleConfig(v1=msgspec.structs.replace(config.v1, nodes={"n1": node})))
    await alice.wait_for(job, Phase.RUNNING)
    others = [await cluster.start(name, offers=FOUR_CORES) for name in ("carol", "dave")]
    corrupt(cluster.nodes[liar], "refuse_allocate")
    await bob.kill()
    honest = next(other for other in others if other.name != liar)
    await until(lambda: honest.hosted_state(job, "n1.web") == "running", timeout_s=240, every_s=0.5)


async def test_the_logs_of_a_standby_that_is_gone_are_nowhere(autojump_clock: MockClock, cluster: Cluster) -> None:
    """Seed 44. Whoever fetched them ended the driver of the deployment."""
    alice, _ = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    with pytest.raises(NothingToRead):
        await alice.node.deployments.live(job).logs.fetch("n1-standby-1.web")


async def test_what_failed_and_is_not_restarted_ends_though_the_clock_had_run_ahead(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Seed 2140. It was held for as long as the clock had been ahead when it failed."""
    alice, bob = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("-1", Script(30.0, exit_code=1))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, allocation={"failure_recovery": "one_for_one"}))
    await alice.wait_for(job, Phase.RUNNING)
    bob.ahead_s = 24 * 3600.0
    await until(lambda: bob.hosted_state(job, "n1.web") == "stopped", timeout_s=60, every_s=1)
    await alice.kill()
    bob.ahead_s = 0.0
    await until(lambda: not bob.holdings(), timeout_s=1200, every_s=10)


async def test_what_is_cut_off_in_the_middle_of_a_restart_ends_when_nobody_wants_it_any_more(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Seed 4368. It had ended for its restart and not begun anew; nobody was told of it, and nobody asked."""
    alice, bob = await cluster.start("alice"), await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("-1", Script(None, cancel_takes_s=8.0))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await alice.node.deployments.live(job).orders.restart(("n1.web",))
    await until(lambda: bob.hosted_state(job, "n1.web") == "stopped", timeout_s=60, every_s=0.5)
    await bob.kill()
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await bob.start()
    assert bob.holdings()
    await until(lambda: not bob.holdings(), timeout_s=1500, every_s=10)
