"""What the simulation found, each as a sentence with the seed that showed it first."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dms.node.payloads import Hello
from dms.orchestrator.state import Phase
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble, until


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
