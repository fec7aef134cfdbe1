"""Allocations that start after others, on whatever machines those are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import EnsembleConfig
from dms.executor.errors import StartFailed
from dms.executor.protocol import ExecOutput
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.testing.nodes import until as until_often
from dms.types import gojson

until = partial(until_often, every_s=0.05)
CHECK = {"type": "command", "exec": ["up"], "interval": 10 * 10**9}
SICK, WELL = Script(None, exec_output=ExecOutput(1, b"no", b"")), Script(None)
COMPLETED = "service_completed_successfully"


def chain(parts: Mapping[str, Mapping[str, object]], **members: Any) -> EnsembleConfig:
    """Each allocation in a node of its own, too large for two on one machine."""
    config = ensemble({f"n-{name}": {name: "service"} for name in parts}, cores=3.0, **members)
    v1 = gojson.to_builtins(config)["v1"]
    for name, part in parts.items():
        v1["allocations"][name] |= part
    return decode_ensemble({"v1": v1})


async def machines(cluster: Cluster, *names: str, scripts: dict[str, Script] | None = None) -> dict[str, SimulatedNode]:
    found = {name: await cluster.start(name, offers=FOUR_CORES) for name in names}
    for node in found.values():
        for execution, script in ({"-1": WELL, "-2": WELL} | (scripts or {})).items():
            node.executor.on(execution, script)
    return found


class Order:
    """When what was started, over all machines."""

    def __init__(self, nodes: dict[str, SimulatedNode]) -> None:
        self.begun: dict[str, float] = {}
        for node in nodes.values():
            node.executor.watch = self.note

    def note(self, what: str, execution: str) -> None:
        if what == "started":
            self.begun[execution.rpartition(".")[2]] = trio.current_time()


async def ended(cluster: Cluster, alice: SimulatedNode, job: Any) -> None:
    if not alice.state(job).phase.is_final:
        await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(20)
    cluster.assert_nothing_is_held()


async def test_what_depends_on_another_machine_starts_after_it(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", "dave", scripts={"db-1": Script(None, start_takes_s=7)})
    order = Order(nodes)
    job = await alice.user.deploy(chain({"web": {"depends_on": ["api"]}, "api": {"depends_on": ["db"]}, "db": {}}))
    state = await alice.wait_for(job, Phase.RUNNING)
    assert len({bid.peer for bid in state.assignment.values()}) == 3
    assert list(order.begun) == ["db-1", "api-1", "web-1"]
    await ended(cluster, alice, job)


async def test_what_has_a_health_check_is_waited_for_until_it_is_well(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", "dave", scripts={"db-1": SICK, "log-1": SICK})
    order = Order(nodes)
    parts: dict[str, dict[str, object]] = {
        "web": {"depends_on": ["db"]},
        "db": {"healthcheck": CHECK},
        "log": {"depends_on": [{"allocation": "db", "condition": "service_started"}]},
    }
    job = await alice.user.deploy(chain(parts))
    await until(lambda: "log-1" in order.begun)
    await trio.sleep(15)
    assert (alice.state(job).phase, list(order.begun)) == (Phase.PROVISIONING, ["db-1", "log-1"])
    waits = [event.detail for event in await alice.user.events(job) if event.kind == "start_waits"]
    assert waits == [{"allocation": "n-web.web", "for": "n-db.db", "condition": "service_healthy"}]
    for node in nodes.values():
        node.executor.on("db-1", WELL)
        for id_, execution in node.executor._executions.items():
            execution.script = WELL if id_.endswith("db-1") else execution.script
    await alice.wait_for(job, Phase.RUNNING)
    assert 15 < order.begun["web-1"] - order.begun["db-1"] < 20
    await ended(cluster, alice, job)


async def test_what_never_gets_well_fails_the_deployment_with_the_reason(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", scripts={"db-1": SICK})
    order = Order(nodes)
    job = await alice.user.deploy(chain({"web": {"depends_on": ["db"]}, "db": {"healthcheck": CHECK}}))
    state = await alice.wait_for(job, Phase.FAILED)
    assert "n-db.db: it was not healthy within 30 s: up ended with exit code 1: 'no'; n-web.web waits" in state.error
    assert "web-1" not in order.begun
    await ended(cluster, alice, job)


async def test_work_that_must_be_done_before_is_waited_for(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", scripts={"move-1": Script(40)})
    order = Order(nodes)
    parts: dict[str, dict[str, object]] = {
        "web": {"depends_on": [{"allocation": "move", "condition": COMPLETED}]},
        "move": {"type": "task"},
    }
    job = await alice.user.deploy(chain(parts))
    state = await alice.wait_for(job, Phase.RUNNING)
    assert 40 <= order.begun["web-1"] - order.begun["move-1"] < 41
    assert state.allocations["n-move.move"].status == "completed"
    await ended(cluster, alice, job)


async def test_work_before_that_fails_ends_the_deployment_at_once(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", scripts={"move-1": Script(4, exit_code=3)})
    order = Order(nodes)
    parts: dict[str, dict[str, object]] = {
        "web": {"depends_on": [{"allocation": "move", "condition": COMPLETED}]},
        "move": {"type": "task"},
    }
    begun = trio.current_time()
    job = await alice.user.deploy(chain(parts))
    state = await alice.wait_for(job, Phase.FAILED)
    assert state.error == "failed to provision deployment: n-move.move: exit code 3; n-web.web waits for it"
    assert trio.current_time() - begun < 10, "another machine would not help"
    assert "web-1" not in order.begun
    assert state.allocations["n-move.move"].status == "failed"
    await ended(cluster, alice, job)


async def test_work_that_takes_longer_than_the_deployment_may_is_told_as_the_reason(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    await machines(cluster, "bob", "carol", scripts={"move-1": Script(None)})
    parts: dict[str, dict[str, object]] = {
        "web": {"depends_on": [{"allocation": "move", "condition": COMPLETED}]},
        "move": {"type": "task"},
    }
    job = await alice.user.deploy(chain(parts))
    state = await alice.wait_for(job, Phase.FAILED)
    assert "n-move.move: it had not completed when the time for the deployment was over" in state.error
    await ended(cluster, alice, job)


async def test_a_machine_that_dies_while_its_work_is_waited_for_is_replaced(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    nodes = await machines(cluster, "bob", "carol", scripts={"move-1": Script(30)})
    parts: dict[str, dict[str, object]] = {
        "web": {"depends_on": [{"allocation": "move", "condition": COMPLETED}]},
        "move": {"type": "task"},
    }
    job = await alice.user.deploy(chain(parts), timeout_s=600)
    state = await alice.wait_for(job, Phase.PROVISIONING)
    peer = state.assignment["n-move"].peer
    await until(lambda: cluster.of_peer(peer).starts(job))
    await cluster.of_peer(peer).kill()
    nodes |= await machines(cluster, "dave", scripts={"move-1": Script(30)})
    state = await alice.wait_for(job, Phase.RUNNING)
    assert state.assignment["n-move"].peer != peer
    assert state.failures[peer] == 1
    await alice.user.shutdown(job)
    await alice.wait_for(job, Phase.COMPLETED)


async def test_one_that_cannot_start_keeps_those_behind_it_from_starting(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    broken = Script(start_takes_s=1, start_error=StartFailed("disk broken"))
    nodes = await machines(
        cluster, "bob", "carol", "dave", scripts={"db-1": broken, "slow-1": Script(None, start_takes_s=2)}
    )
    order = Order(nodes)
    job = await alice.user.deploy(chain({"web": {"depends_on": ["slow", "db"]}, "slow": {}, "db": {}}))
    state = await alice.wait_for(job, Phase.FAILED)
    assert "n-db.db: disk broken" in state.error
    assert "web-1" not in order.begun
    await ended(cluster, alice, job)


@pytest.mark.parametrize("after_s", [3, 25], ids=["while it is waited", "while the next starts"])
async def test_an_orchestrator_that_is_killed_in_between_goes_on_where_it_was(
    autojump_clock: MockClock, cluster: Cluster, after_s: float
) -> None:
    alice = await cluster.start("alice")
    scripts = {"move-1": Script(20), "db-1": Script(None, start_takes_s=10)}
    nodes = await machines(cluster, "bob", "carol", "dave", scripts=scripts)
    order = Order(nodes)
    parts: dict[str, dict[str, object]] = {
        "web": {"depends_on": ["db"]},
        "db": {"depends_on": [{"allocation": "move", "condition": COMPLETED}], "healthcheck": CHECK},
        "move": {"type": "task"},
    }
    job = await alice.user.deploy(chain(parts))
    await alice.wait_for(job, Phase.PROVISIONING)
    await trio.sleep(after_s)
    await alice.kill()
    await trio.sleep(1)
    await alice.start()
    state = await alice.wait_for(job, Phase.RUNNING)
    assert list(order.begun) == ["move-1", "db-1", "web-1"]
    assert order.begun["db-1"] - order.begun["move-1"] >= 30
    assert state.attempts == 1
    assert all(set(node.starts(job).values()) <= {1} for node in nodes.values())
    await ended(cluster, alice, job)


async def test_a_restart_of_all_keeps_the_order_over_machines(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    slow = Script(None, start_takes_s=5)
    nodes = await machines(cluster, "bob", "carol", scripts={"db-1": slow, "db-2": slow, "web-2": Script(None)})
    config = chain({"web": {"depends_on": ["db"]}, "db": {}})
    job = await alice.user.deploy(config)
    await alice.wait_for(job, Phase.RUNNING)
    order = Order(nodes)
    await alice.node.deployments.live(job).orders.restart(())
    await until(lambda: "web-2" in order.begun)
    assert list(order.begun) == ["db-2", "web-2"]
    await until(lambda: all(r.restarts == 1 for r in alice.state(job).allocations.values()))
    await ended(cluster, alice, job)


async def test_a_node_placed_anew_waits_for_another_that_is_placed_anew(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    scripts = {"db-1": Script(None, start_takes_s=5)}
    nodes = await machines(cluster, "bob", "carol", "dave", "erin", scripts=scripts)
    config = chain({"web": {"depends_on": ["db"]}, "db": {}})
    spread = {name: replace(node, failure_recovery="redeploy") for name, node in config.v1.nodes.items()}
    job = await alice.user.deploy(EnsembleConfig(v1=replace(config.v1, nodes=spread)))
    state = await alice.wait_for(job, Phase.RUNNING)
    lost = [cluster.of_peer(bid.peer) for bid in state.assignment.values()]
    order = Order({name: node for name, node in nodes.items() if node not in lost})
    for node in lost:
        await node.kill()
    await until(lambda: len(order.begun) == 2, timeout_s=300)
    assert list(order.begun) == ["db-1", "web-1"]
    await until(lambda: {r.status for r in alice.state(job).allocations.values()} == {"running"}, timeout_s=300)
    await alice.user.shutdown(job)
    await alice.wait_for(job, Phase.COMPLETED)
