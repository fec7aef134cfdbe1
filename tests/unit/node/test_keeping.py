"""How long deployments that have ended are remembered."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dms.node.node import FORGET_INTERVAL_S
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble

DAY_S = 24 * 3600.0


async def test_what_ended_long_ago_is_forgotten_by_itself_and_what_goes_on_is_not(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice", keep_deployments_s=DAY_S)
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("a-1", Script(1))
    first = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.wait_until_settled(first)
    await trio.sleep(DAY_S / 2)
    second = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.wait_until_settled(second)
    assert {record.id for record in alice.node.deployments.all()} == {first, second}
    await trio.sleep(DAY_S / 2 + FORGET_INTERVAL_S)
    assert {record.id for record in alice.node.deployments.all()} == {second}
