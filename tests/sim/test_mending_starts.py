"""What fails while others still wait for their start is started again where it is, if its ensemble says so."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from tests.sim.test_dependencies import CHECK, COMPLETED, SICK, Order, chain, ended, machines
from trio.testing import MockClock

from dms.executor.errors import StartFailed
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import Cluster
from dms.testing.nodes import until as until_often

until = partial(until_often, every_s=0.05)
MOVE: dict[str, dict[str, object]] = {
    "web": {"depends_on": [{"allocation": "move", "condition": COMPLETED}]},
    "move": {"type": "task", "failure_recovery": "one_for_one"},
}
FAILS = Script(4, exit_code=3)


async def test_work_before_that_fails_is_begun_again_where_it_was(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    scripts = {"move-1": FAILS, "move-2": FAILS, "move-3": Script(4)}
    nodes = await machines(cluster, "bob", "carol", scripts=scripts)
    order = Order(nodes)
    job = await alice.user.deploy(chain(MOVE))
    state = await alice.wait_for(job, Phase.RUNNING)
    assert list(order.begun) == ["move-1", "move-2", "move-3", "web-1"]
    assert (state.attempts, state.failures) == (1, {})
    assert (state.allocations["n-move.move"].status, state.allocations["n-move.move"].restarts) == ("completed", 2)
    await ended(cluster, alice, job)


async def test_what_fails_again_and_again_fails_the_deployment_in_the_end(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", scripts={f"move-{number}": FAILS for number in range(1, 6)})
    order = Order(nodes)
    job = await alice.user.deploy(chain(MOVE))
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "failed to provision deployment: n-move.move: exit code 3; n-web.web waits for it"
    assert list(order.begun) == ["move-1", "move-2", "move-3", "move-4"]
    await ended(cluster, alice, job)


async def test_what_does_not_get_well_is_started_again_where_it_is(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", scripts={"db-1": SICK})
    order = Order(nodes)
    parts: dict[str, dict[str, object]] = {
        "web": {"depends_on": ["db"]},
        "db": {"healthcheck": CHECK, "failure_recovery": "one_for_one"},
    }
    job = await alice.user.deploy(chain(parts))
    state = await alice.wait_for(job, Phase.RUNNING)
    assert list(order.begun) == ["db-1", "db-2", "web-1"]
    assert state.attempts == 1
    await ended(cluster, alice, job)


@pytest.mark.parametrize("after_s", [4.5, 8], ids=["before it is restarted", "while it runs again"])
async def test_an_orchestrator_that_is_killed_meanwhile_restarts_it_once(
    autojump_clock: MockClock, cluster: Cluster, after_s: float
) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", scripts={"move-1": FAILS, "move-2": Script(20)})
    order = Order(nodes)
    job = await alice.user.deploy(chain(MOVE))
    await until(lambda: "move-1" in order.begun)
    await trio.sleep(after_s)
    await alice.kill()
    await trio.sleep(1)
    await alice.start()
    state = await alice.wait_for(job, Phase.RUNNING)
    assert list(order.begun) == ["move-1", "move-2", "web-1"]
    assert state.attempts == 1
    await ended(cluster, alice, job)


async def test_what_cannot_be_restarted_does_not_keep_a_deployment_that_was_taken_up_again_waiting(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    """Seed 2049. The refusal told of the execution before, and was taken for a late answer."""
    alice = await cluster.start("alice")
    broken = Script(start_takes_s=1, start_error=StartFailed("this machine cannot"))
    await machines(cluster, "bob", "carol", scripts={"bad-1": broken, "slow-1": Script(None, start_takes_s=30)})
    parts: dict[str, dict[str, object]] = {"slow": {}, "bad": {"failure_recovery": "one_for_one"}}
    job = await alice.user.deploy(chain(parts))
    await until(
        lambda: "n-bad.bad" in alice.state(job).allocations and alice.state(job).allocations["n-bad.bad"].due_ns
    )
    await alice.kill()
    await trio.sleep(1)
    await alice.start()
    await until(lambda: alice.state(job).phase is not Phase.PROVISIONING, timeout_s=300)
    await ended(cluster, alice, job)
