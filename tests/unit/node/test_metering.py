"""What a node measures."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dms.node import metric_names as names
from dms.observe.metrics import Metric, prometheus_text
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.nodes import FOUR_CORES, GIB, Cluster, SimulatedNode, ensemble
from dms.types.resources import Location


def values(node: SimulatedNode, metric: Metric) -> dict[str, float]:
    """By the first of the labels."""
    return {
        next(iter(sample.labels.values()), ""): sample.value
        for sample in node.node.metering.collect()
        if sample.metric is metric
    }


async def test_a_deployment_is_measured_on_both_sides(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES, location=Location(country="DE", continent="EU"))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, cores=1.5))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(70)
    assert values(alice, names.BIDS_RECEIVED) == values(alice, names.BIDS_ACCEPTED) == {job: 1}
    assert values(alice, names.DEPLOYMENTS)["Running"] == 1
    assert values(alice, names.SUCCESS) == values(alice, names.SUCCESS_ALLOCATIONS) == {"": 1}
    assert values(alice, names.SUCCESS_CPU) == {"": 1.5}
    assert values(alice, names.SUCCESS_MEMORY) == {"": GIB}
    assert values(bob, names.ALLOCATION_STATUS) == {job: 1}
    assert values(bob, names.ALLOCATION_HEARTBEAT)[job] >= 2
    assert values(bob, names.ONBOARDED) == {"": 1}
    assert values(bob, names.ONBOARDED_CPU) == {"": 4}
    assert values(bob, names.ONBOARDED_MEMORY) == {"": 8 * GIB / 1e9}
    assert values(bob, names.LOCATION) == {"EU": 1}
    assert values(bob, names.PEERS) == {"": 1}
    assert values(bob, names.MESSAGES)["dispatched"] > 0
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(4 * 3600)
    assert values(bob, names.ALLOCATION_STATUS) == values(bob, names.ALLOCATION_HEARTBEAT) == {}
    assert values(alice, names.SUCCESS) == {"": 1}


async def test_everything_that_is_told_is_published_and_all_of_it_is_text(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    published = {metric.name: metric for metrics in names.METRICS.values() for metric in metrics}
    samples = alice.node.metering.collect()
    for sample in samples:
        assert published[sample.metric.name] is sample.metric
        assert set(sample.labels) == set(sample.metric.labels), sample.metric.name
    text = prometheus_text(samples).decode()
    assert "\ndms_sys_memory_total " in text
    assert "\ndms_node_onboarded 0\n" in text
