"""Many equal nodes, from one entry to as many workloads."""

from __future__ import annotations

from msgspec.structs import replace
from trio.testing import MockClock

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble


def counted(config: EnsembleConfig, **counts: int) -> EnsembleConfig:
    nodes = {name: replace(node, count=counts.get(name, 0)) for name, node in config.v1.nodes.items()}
    return EnsembleConfig(v1=replace(config.v1, nodes=nodes))


async def test_each_member_of_a_group_is_deployed_and_runs_its_own(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    for name in ("bob", "carol"):
        await cluster.start(name, offers=FOUR_CORES)
    job = await alice.user.deploy(counted(ensemble({"w": {"part": "task"}, "n": {"lone": "task"}}), w=5))
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert sorted(record.name for record in state.allocations.values()) == [
        "lone", "part-0001", "part-0002", "part-0003", "part-0004", "part-0005",
    ]  # fmt: skip
    assert {record.node_id for record in state.allocations.values()} == {"n", *(f"w-000{i}" for i in range(1, 6))}
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()
